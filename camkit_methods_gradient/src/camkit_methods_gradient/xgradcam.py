"""XGrad-CAM: gradients weighted by activations, so that the map conserves the score."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import spatial_sum, weighted_sum


class XGradCAM(MethodModel):
    """sum_k w_k A_k with w_k = sum_S(G_k A_k) / sum_S A_k.

    Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, BMVC
    2020, arXiv:2008.02312, eq. 6. A channel whose activations cancel out (sum_S A_k is 0 up to
    rounding) has no such weight; it is left out and reported.
    """

    name: ClassVar[str] = "xgradcam"
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
            Claim.LINEAR_IN_TARGET,
        }
    )

    variant: Literal["paper", "grad-cam"] = Field(
        "paper", description="paper: eq. 6; grad-cam: that library's 1e-7 added to the denominator"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        total, product = spatial_sum(activations), spatial_sum(capture.gradients * activations)
        if self.variant == "grad-cam":
            return weighted_sum(product / (total + 1e-7), activations)
        size = spatial_sum(activations.abs())
        usable = total.abs() > 8 * torch.finfo(total.dtype).eps * size
        lost = (~usable & (size > 0)).any(1)
        if bool(lost.any()):
            capture.report(
                "cancelled_channels",
                "the activations of some channels sum to zero, so XGrad-CAM has no weight for them",
                tuple(lost.nonzero()[:, 0].tolist()),
            )
        weights = torch.where(usable, product / torch.where(usable, total, 1.0), 0.0)
        return weighted_sum(weights, activations)
