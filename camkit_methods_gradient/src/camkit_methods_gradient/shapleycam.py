"""Shapley-CAM: channel weights from the second-order expansion of the score."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import spatial_mean, weighted_sum


class ShapleyCAM(MethodModel):
    """sum_k w_k A_k with w_k = mean_S(G - H A / 2)_k, H the Hessian of the score at the layer.

    Cai, CAMs as Shapley Value-based Explainers, 2025, arXiv:2501.06261. For quadratic scores
    sum_S (G - H A / 2) * A is the exact Shapley value of each channel. With the logit of a ReLU
    network H is zero and the map is Grad-CAM's; the paper explains the logit plus its
    log-probability.
    """

    name: ClassVar[str] = "shapleycam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER
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
    runs: ClassVar[str] = "1F + 2B"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        slope = capture.gradients - capture.hvp(activations) / 2
        return weighted_sum(spatial_mean(slope), activations)
