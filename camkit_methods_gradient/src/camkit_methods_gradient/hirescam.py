"""HiResCAM: every position keeps its own gradient."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class HiResCAM(MethodModel):
    """sum_k G_k * A_k, position by position.

    Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
    neural networks, 2020, arXiv:2011.08891, eq. 6. Equals Grad-CAM behind global average pooling;
    elsewhere it is zero where the score does not look.
    """

    name: ClassVar[str] = "hirescam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.GAP_IS_CAM,
            Claim.CONSERVATION,
            Claim.LOCALITY,
            Claim.LINEAR_IN_TARGET,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return (capture.gradients * capture.activations).sum(1)
