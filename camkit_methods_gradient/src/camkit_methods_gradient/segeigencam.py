"""Seg-Eigen-CAM: first component of absolute gradients times activations."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import first_component


class SegEigenCAM(MethodModel):
    """First principal component of |G| * A, flipped if its lowest value is its largest.

    Chung and Ying, Seg-Eigen-CAM: Eigen-Value-Based Visual Explanations for Semantic Segmentation
    Models, Applied Sciences 15(13):7562, 2025, doi:10.3390/app15137562, eq. 10-13. Positions are
    centered before the decomposition, as in the published code.
    """

    name: ClassVar[str] = "segeigencam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        weighted = capture.gradients.abs() * capture.activations
        projection = first_component(weighted, center=True)
        axes = tuple(range(1, projection.ndim))
        flip = projection.amin(axes, keepdim=True).abs() > projection.amax(axes, keepdim=True).abs()
        return torch.where(flip, -projection, projection)
