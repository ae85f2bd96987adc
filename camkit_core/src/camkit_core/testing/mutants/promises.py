"""Wrong methods of one capture: what they declare and claim, state, noise, arbitrary signs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core.capture import Capture
from camkit_core.method import MethodModel
from camkit_core.need import Claim, Need
from camkit_core.testing.mutants.methods import LINEAR, GradCAM
from camkit_core.testing.mutants.mutant import Mutant

_BLIND = frozenset(
    {
        *(Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION),
        *(Claim.SCORE_SCALING, Claim.SCORE_SHIFT),
    }
)


class Undeclared(GradCAM):
    """Reads gradients without declaring them."""

    needs: ClassVar[Need] = Need.ACTIVATIONS


class Overdeclared(GradCAM):
    """Declares input gradients that it does not read."""

    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.INPUT_GRADIENTS


class WritesCapture(GradCAM):
    """Rectifies the capture's own activations."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Other methods of the call see the change."""
        return (self.weights(capture) * capture.activations.mul_(1.0)).sum(1)


class Underclaimed(GradCAM):
    """Claims nothing, although relations hold."""

    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.DETERMINISTIC})


class Overclaimed(GradCAM):
    """Claims to be zero where the score does not look."""

    claims: ClassVar[frozenset[Claim]] = LINEAR | {Claim.LOCALITY}


class TwoBackwards(GradCAM):
    """Says it needs a forward pass only."""

    runs: ClassVar[str] = "1F"


class UnseededNoise(GradCAM):
    """Noise from the global generator."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Another map every time."""
        found = super().__call__(capture)
        return found + 0.01 * torch.randn_like(found)


_SEEN: dict[tuple[int, ...], Tensor] = {}


class StateCached(GradCAM):
    """Keeps the weights of the first image it saw."""

    def weights(self, capture: Capture) -> Tensor:
        """By shape, as a cache would."""
        own = super().weights(capture)
        return _SEEN.setdefault(tuple(own.shape), own)


class StateMixed(GradCAM):
    """Smooths its weights with those of the call before."""

    def weights(self, capture: Capture) -> Tensor:
        """As for the frames of a film."""
        own = super().weights(capture)
        before = _SEEN.get((0, *own.shape), own)
        _SEEN[0, *own.shape] = own
        return 0.9 * own + 0.1 * before


class SilentOption(GradCAM):
    """Has an option that nothing describes."""

    gain: float = 1.0


class ClassBlind(GradCAM):
    """Says it follows the class, but maps the activations."""

    needs: ClassVar[Need] = Need.ACTIVATIONS
    claims: ClassVar[frozenset[Claim]] = _BLIND

    def __call__(self, capture: Capture, /) -> Tensor:
        """The same for every class."""
        return capture.activations.mean(1)


class SignOfFirst(MethodModel):
    """A principal component whose first position is made positive."""

    name: ClassVar[str] = "component"
    needs: ClassVar[Need] = Need.ACTIVATIONS
    claims: ClassVar[frozenset[Claim]] = _BLIND
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    def component(self, capture: Capture) -> Tensor:
        """`[N, P]`, centered, sign arbitrary."""
        rows = capture.activations.flatten(2).transpose(1, 2)
        rows = rows - rows.mean(1, keepdim=True)
        _, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        found: Tensor = (rows @ vectors[..., -1:])[..., 0]
        return found

    def sign(self, found: Tensor, capture: Capture) -> Tensor:
        """`[N, 1]`."""
        return found[:, :1].sign()

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        found = self.component(capture)
        signed = found * self.sign(found, capture)
        return signed.reshape(len(found), *capture.activations.shape[2:])


class SignFollows(SignOfFirst):
    """The right one: the sign agrees with the sum over channels."""

    def sign(self, found: Tensor, capture: Capture) -> Tensor:
        """Of the inner product."""
        total = capture.activations.sum(1).flatten(1)
        agreement = (found * total).sum(1, keepdim=True)
        return torch.where(agreement < 0, -1.0, 1.0).to(found)


class RandomSign(SignOfFirst):
    """A principal component with a sign thrown like a coin."""

    def sign(self, found: Tensor, capture: Capture) -> Tensor:
        """From the global generator."""
        return torch.rand(len(found), 1).sub(0.5).sign().to(found)


class OffByOneCAM(MethodModel):
    """CAM with the weights of the next class."""

    name: ClassVar[str] = "headcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.HEAD
    claims: ClassVar[frozenset[Claim]] = LINEAR - {Claim.LINEAR_IN_TARGET}
    runs: ClassVar[str] = "1F"
    offset: ClassVar[int] = 1

    def __call__(self, capture: Capture, /) -> Tensor:
        """`sum_k w_ck A_k / Z`."""
        classes = capture.target.describe().classes
        assert classes is not None
        a = capture.activations
        weight = capture.head.weight[(classes + self.offset) % len(capture.head.weight)]
        return (weight.reshape(*weight.shape, *(1,) * (a.ndim - 2)) * a).sum(1) / a[0, 0].numel()


class HeadCAM(OffByOneCAM):
    """The right one."""

    offset: ClassVar[int] = 0


def _mutant(kind: type[MethodModel], killer: str) -> Mutant:
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    def make() -> MethodModel:
        _SEEN.clear()
        return kind()

    steady = kind not in (UnseededNoise, RandomSign)
    return Mutant(kind.__name__, fault, killer, make, steady=steady)


RIGHT = tuple(_mutant(kind, "") for kind in (SignFollows, HeadCAM))

MUTANTS = (
    _mutant(Undeclared, "declared_needs"),
    _mutant(Overdeclared, "declared_needs"),
    _mutant(WritesCapture, "capture_unwritten"),
    _mutant(Underclaimed, "channel_permutation"),
    _mutant(Overclaimed, "locality"),
    _mutant(TwoBackwards, "cost"),
    _mutant(UnseededNoise, "seed"),
    _mutant(StateCached, "batch_independence"),
    _mutant(StateMixed, "no_memory"),
    _mutant(SilentOption, "card"),
    _mutant(ClassBlind, "class_sensitivity"),
    _mutant(SignOfFirst, "flip"),
    _mutant(RandomSign, "seed"),
    _mutant(OffByOneCAM, "gap_is_cam"),
)
