"""Element-wise Grad-CAM: positive products of gradient and activation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class GradCAMElementWise(MethodModel):
    """sum_k relu(G_k * A_k).

    From the pytorch-grad-cam library (no paper). Equals LayerCAM where the activations are not
    negative.
    """

    name: ClassVar[str] = "gradcamelementwise"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LOCALITY,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return (capture.gradients * capture.activations).relu().sum(1)
