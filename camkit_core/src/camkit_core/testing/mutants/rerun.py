"""Wrong methods that run the model again: masked images, changed activations, random draws."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core.capture import Capture
from camkit_core.errors import CapabilityError
from camkit_core.method import MethodModel
from camkit_core.need import Claim, Need
from camkit_core.rows import TensorRows
from camkit_core.testing.mutants.mutant import Mutant

_DROP = frozenset(
    {
        *(Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION),
        *(Claim.SCORE_SCALING, Claim.SCORE_SHIFT, Claim.LINEAR_IN_TARGET, Claim.GAP_IS_CAM),
    }
)


class Ablation(MethodModel):
    """sum_k w_k A_k with w_k = (y - y without channel k) / sum A_k: right."""

    name: ClassVar[str] = "ablation"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    claims: ClassVar[frozenset[Claim]] = _DROP | {Claim.CHANNEL_RESCALING}
    runs: ClassVar[str] = "1F + K T"

    def rows(self, capture: Capture) -> Any:
        """Every image without each of its channels."""
        a = capture.activations
        n, c = a.shape[:2]
        kept = 1 - torch.eye(c).to(a)
        rows = a[:, None] * kept.reshape(1, c, c, *(1,) * (a.ndim - 2))
        return TensorRows(rows.flatten(0, 1), torch.arange(n).repeat_interleave(c))

    def drops(self, capture: Capture) -> Tensor:
        """`[N, C]`."""
        scores = capture.tail(self.rows(capture)).reshape(capture.activations.shape[:2])
        return capture.score[:, None] - scores

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        a = capture.activations
        total = a.flatten(2).sum(-1)
        weights = torch.where(total == 0, 0.0, self.drops(capture) / total)
        return (weights.reshape(*weights.shape, *(1,) * (a.ndim - 2)) * a).sum(1)


class MissingBaseline(Ablation):
    """The score without the channel is not compared with the score."""

    def drops(self, capture: Capture) -> Tensor:
        """No longer a difference."""
        return capture.tail(self.rows(capture)).reshape(capture.activations.shape[:2])


class RowsByChunk(Ablation):
    """Weights are normalised as rows come in, chunk by chunk."""

    def drops(self, capture: Capture) -> Tensor:
        """Depends on where the chunks end."""
        seen: list[int] = []

        class Rows(TensorRows):
            def __getitem__(self, rows: slice, /) -> Tensor:
                part = super().__getitem__(rows)
                seen.append(len(part))
                return part

        whole = self.rows(capture)
        chunked: Any = Rows(whole.values, whole.owner)
        scores = capture.tail(chunked)
        per_chunk = torch.cat([scores.new_full((size,), float(size)) for size in seen])
        drops = capture.score[:, None] - scores.reshape(capture.activations.shape[:2])
        return drops * per_chunk.reshape(drops.shape)


class OwnersMixed(Ablation):
    """The rows of all images are compared with the first image."""

    def drops(self, capture: Capture) -> Tensor:
        """Right for one image."""
        whole = self.rows(capture)
        mixed: Any = TensorRows(whole.values, whole.owner * 0)
        scores = capture.tail(mixed)
        return capture.score[:, None] - scores.reshape(capture.activations.shape[:2])


class Understated(Ablation):
    """Runs twice for every channel, and declares one run."""

    def drops(self, capture: Capture) -> Tensor:
        """The mean of both."""
        return (super().drops(capture) + super().drops(capture)) / 2


class Masks(MethodModel):
    """The mean of random masks, weighted by what they leave of the score: right."""

    name: ClassVar[str] = "masks"
    needs: ClassVar[Need] = Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            *(Claim.CHANNEL_PERMUTATION, Claim.CHANNEL_RESCALING),
            *(Claim.SCORE_SCALING, Claim.SCORE_SHIFT, Claim.LINEAR_IN_TARGET),
        }
    )
    runs: ClassVar[str] = "1F + 16 F"

    samples: int = Field(16, ge=2, description="masks per image")

    def masks(self, capture: Capture) -> Tensor:
        """`[samples, *S]`, the same for all images."""
        shape = (self.samples, *capture.inputs.shape[2:])
        drawn = torch.rand(shape, generator=capture.generator, dtype=torch.float32)
        return (drawn < 0.5).to(capture.inputs)

    def scores(self, capture: Capture, rows: Any) -> Tensor:
        """`[N * samples]`."""
        return capture.scores(rows)

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        x, masks = capture.inputs, self.masks(capture)
        n, m = len(x), len(masks)
        masked = (x[:, None] * masks[None, :, None]).flatten(0, 1)
        rows: Any = TensorRows(masked, torch.arange(n).repeat_interleave(m))
        scores = self.scores(capture, rows).reshape(n, m)
        centered = scores - scores.mean(1, keepdim=True)
        return torch.einsum("nm,m...->n...", centered, masks) / (m - 1)


class ReusedMasks(Masks):
    """All masks of a call are copies of the first eight."""

    def masks(self, capture: Capture) -> Tensor:
        """More samples, no more information."""
        drawn = super().masks(capture)
        return drawn[torch.arange(len(drawn)) % 8]


class Likeness(Masks):
    """Masks weighted by a view of the target: right."""

    target_views: ClassVar[tuple[str, ...]] = ("similarity",)

    def view(self, capture: Capture) -> Any:
        """The view.

        Raises:
            CapabilityError: the target has none.
        """
        found = getattr(capture.target, "similarity", None)
        if found is None:
            raise CapabilityError(f"{capture.target.describe().label!r} has no similarity")
        return found

    def scores(self, capture: Capture, rows: Any) -> Tensor:
        """By the view."""
        return capture.scores(rows, target=self.view(capture))


class ScoreForView(Likeness):
    """Takes the score where the target lacks the view it asks for."""

    def view(self, capture: Capture) -> Any:
        """Explains something else, without a word."""
        return getattr(capture.target, "similarity", capture.target)


def _mutant(kind: type[MethodModel], killer: str, tier: str = "fast") -> Mutant:
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    steady = kind is not RowsByChunk
    return Mutant(kind.__name__, fault, killer, kind, tier, steady)  # type: ignore[arg-type]


RIGHT = (_mutant(Ablation, ""), _mutant(Masks, "", "full"), _mutant(Likeness, ""))

MUTANTS = (
    _mutant(MissingBaseline, "score_shift"),
    _mutant(RowsByChunk, "chunks"),
    _mutant(OwnersMixed, "batch_independence"),
    _mutant(Understated, "declared_runs"),
    _mutant(ReusedMasks, "monte_carlo", "full"),
    _mutant(ScoreForView, "missing_view"),
)
