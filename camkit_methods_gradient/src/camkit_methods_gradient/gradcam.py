"""Grad-CAM: average gradients as channel weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import spatial_mean, weighted_sum


class GradCAM(MethodModel):
    """sum_k w_k A_k with w_k = mean_S dy/dA_k.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization, ICCV 2017, arXiv:1610.02391, eq. 1-2.
    """

    name: ClassVar[str] = "gradcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.GAP_IS_CAM,
            Claim.LINEAR_IN_TARGET,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(spatial_mean(capture.gradients), capture.activations)
