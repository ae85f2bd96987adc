"""Grad-CAM++: positive gradients, weighted by their curvature."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import spatial_sum, spread, weighted_sum


class GradCAMPlusPlus(MethodModel):
    """sum_k w_k A_k with w_k = sum_S alpha relu(G), alpha = G^2 / (2 G^2 + G^3 sum_S A).

    Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
    Convolutional Networks, WACV 2018, arXiv:1710.11063, eq. 19. The paper explains exp(y), whose
    extra factor cancels. G^2 is cancelled before dividing, and alpha is 0 where G or the
    denominator is, so no absolute constant distorts small gradients. Not invariant to the scale of
    the score.
    """

    name: ClassVar[str] = "gradcampp"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SHIFT,
        }
    )

    variant: Literal["paper", "grad-cam", "torchcam"] = Field(
        "paper",
        description="paper: eq. 19; grad-cam: that library's 1e-6 in the denominator; "
        "torchcam: that library's missing denominator, alpha = G^2",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations, gradients = capture.activations, capture.gradients
        total = spread(spatial_sum(activations), activations)
        positive = gradients.relu()
        if self.variant == "paper":
            share = positive / _denominator(gradients, total)
        elif self.variant == "grad-cam":
            square = gradients**2
            share = positive * square / (2 * square + total * square * gradients + 1e-6)
        else:
            share = positive * gradients**2
        return weighted_sum(spatial_sum(share), activations)


def _denominator(gradients: Tensor, total: Tensor) -> Tensor:
    """2 + G sum_S A; infinite, so that alpha is 0, where rounding leaves nothing of it."""
    product = gradients * total
    denominator = 2 + product
    rounding = 4 * torch.finfo(product.dtype).eps * (2 + product.abs())
    return denominator.masked_fill_(denominator.abs() <= rounding, torch.inf)
