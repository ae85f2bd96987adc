"""Wrong methods of one capture: formulas, axes, precision."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core.capture import Capture
from camkit_core.method import MethodModel
from camkit_core.need import Claim, Need
from camkit_core.testing.mutants.mutant import Mutant

_AG = Need.ACTIVATIONS | Need.GRADIENTS
LINEAR = frozenset(
    {
        *(Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.CHANNEL_RESCALING),
        *(Claim.SCORE_SCALING, Claim.SCORE_SHIFT, Claim.GAP_IS_CAM, Claim.LINEAR_IN_TARGET),
    }
)


def _axes(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2, maps.ndim))


class GradCAM(MethodModel):
    """sum_k mean(G_k) A_k: what most mutants are a change of."""

    name: ClassVar[str] = "gradcam"
    needs: ClassVar[Need] = _AG
    claims: ClassVar[frozenset[Claim]] = LINEAR

    def weights(self, capture: Capture) -> Tensor:
        """`[N, C, 1, ...]`."""
        gradients = capture.gradients
        return gradients.mean(_axes(gradients), keepdim=True)

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return (self.weights(capture) * capture.activations).sum(1)


class BatchMean(GradCAM):
    """The weights are averaged over the batch, too."""

    def weights(self, capture: Capture) -> Tensor:
        """One row for all images."""
        return super().weights(capture).mean(0, keepdim=True)


class SumForMean(GradCAM):
    """The gradient is summed over positions."""

    def weights(self, capture: Capture) -> Tensor:
        """Z times too large."""
        return capture.gradients.sum(_axes(capture.gradients), keepdim=True)


class ReluBeforeSum(GradCAM):
    """Each channel is rectified before the sum."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Negative evidence is lost."""
        return (self.weights(capture) * capture.activations).relu().sum(1)


class AbsoluteGradients(GradCAM):
    """The sign of the gradient is lost."""

    def weights(self, capture: Capture) -> Tensor:
        """Evidence against counts as evidence for."""
        return super().weights(capture).abs()


class WrongAxis(GradCAM):
    """The mean is taken over the last axis only."""

    def weights(self, capture: Capture) -> Tensor:
        """A weight per row of the picture."""
        return capture.gradients.mean(-1, keepdim=True)


class TwoDimensions(GradCAM):
    """The spatial axes are written as (2, 3)."""

    def weights(self, capture: Capture) -> Tensor:
        """Fails, or averages too little, elsewhere."""
        return capture.gradients.mean((2, 3), keepdim=True)


class ChannelsSwapped(GradCAM):
    """Weights and activations are off by one channel."""

    def weights(self, capture: Capture) -> Tensor:
        """The neighbour's weight."""
        return super().weights(capture).roll(1, 1)


class MinMaxOverBatch(GradCAM):
    """Scaled by the largest value of the batch."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Depends on the neighbours."""
        found = super().__call__(capture)
        return found / found.abs().max()


class HalfCell(GradCAM):
    """The map is shifted by half a cell."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Each cell averaged with its left neighbour."""
        found = super().__call__(capture)
        return (found + found.roll(1, -1)) / 2


class Resized(GradCAM):
    """The map is enlarged to the image already."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Twice the resolution."""
        found = super().__call__(capture)
        return found.repeat_interleave(2, -1)


class Squeezed(GradCAM):
    """Axes of length one are dropped, that of the batch too."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Wrong for one image."""
        return super().__call__(capture).squeeze()


class HalfPrecision(GradCAM):
    """Computed and returned in float16."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Overflows, and loses digits."""
        return super().__call__(capture).half()


class SinglePrecision(GradCAM):
    """Computed in float32 whatever comes."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Loses half the digits of float64."""
        return super().__call__(capture).float()


class AddedEpsilon(GradCAM):
    """Adds an absolute epsilon to a denominator."""

    def weights(self, capture: Capture) -> Tensor:
        """Fades small gradients."""
        own = super().weights(capture)
        return own * own.abs() / (own.abs() + 1e-3)


class DividesByZero(GradCAM):
    """Divides by the largest weight, which may be nothing."""

    def weights(self, capture: Capture) -> Tensor:
        """NaN for a class without weights."""
        own = super().weights(capture)
        return own / own.abs().amax(1, keepdim=True)


class CubesGradients(GradCAM):
    """Goes through the third power of the gradient."""

    def weights(self, capture: Capture) -> Tensor:
        """Leaves the range of float32."""
        own = super().weights(capture)
        return (own**3).sign() * (own**3).abs() ** (1 / 3)


class ReadsLogits(GradCAM):
    """Weights the map by the softmax over all logits."""

    def __call__(self, capture: Capture, /) -> Tensor:
        """Other classes change the map."""
        share: Tensor = capture.output.softmax(1).amax(1)
        found = super().__call__(capture)
        share = share.reshape(-1, *(1,) * (found.ndim - 1))
        return found * share


class EpsilonInSum(MethodModel):
    """XGrad-CAM with 1e-3 added to a sum that may be negative."""

    name: ClassVar[str] = "xgradcam"
    needs: ClassVar[Need] = _AG
    claims: ClassVar[frozenset[Claim]] = LINEAR | {Claim.CONSERVATION}

    def __call__(self, capture: Capture, /) -> Tensor:
        """The sum is no longer the score's."""
        a, g = capture.activations, capture.gradients
        total = a.sum(_axes(a), keepdim=True) + 1e-3
        return ((g * a).sum(_axes(a), keepdim=True) / total * a).sum(1)


def _mutant(kind: type[MethodModel], killer: str) -> Mutant:
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Mutant(kind.__name__, fault, killer, kind)


RIGHT = (_mutant(GradCAM, ""),)

MUTANTS = (
    _mutant(BatchMean, "batch_independence"),
    _mutant(MinMaxOverBatch, "batch_independence"),
    _mutant(Squeezed, "batch_independence"),
    _mutant(SumForMean, "gap_is_cam"),
    _mutant(ReluBeforeSum, "reference"),
    _mutant(AbsoluteGradients, "linear_in_target"),
    _mutant(WrongAxis, "reference"),
    _mutant(TwoDimensions, "one_dimension"),
    _mutant(ChannelsSwapped, "channel_permutation"),
    _mutant(HalfCell, "flip"),
    _mutant(Resized, "raw_map"),
    _mutant(HalfPrecision, "raw_map"),
    _mutant(SinglePrecision, "reference"),
    _mutant(AddedEpsilon, "score_scaling"),
    _mutant(DividesByZero, "zero_class"),
    _mutant(CubesGradients, "extreme_gradients"),
    _mutant(ReadsLogits, "unrelated_classes"),
    _mutant(EpsilonInSum, "conservation"),
)
