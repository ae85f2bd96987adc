"""Spatial-sensitive Grad-CAM: Grad-CAM times where the gradient is large; for detectors."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import positions, spatial_mean, weighted_sum


class SSGradCAM(MethodModel):
    """sum_k w_k (|G_k| / max_S |G_k|) * A_k with w_k = mean_S G_k.

    Yamauchi and Ishikawa, Spatial Sensitive Grad-CAM: Visual Explanations for Object Detection by
    Incorporating Spatial Sensitivity, ICIP 2022, doi:10.1109/ICIP46576.2022.9897350. The space map
    is normalized per channel.
    """

    name: ClassVar[str] = "ssgradcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LOCALITY,
            Claim.GAP_IS_CAM,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations, gradients = capture.activations, capture.gradients
        size = gradients.abs()
        top = size.amax(positions(size), keepdim=True)
        space = size / torch.where(top == 0, 1.0, top)
        return weighted_sum(spatial_mean(gradients), space * activations)
