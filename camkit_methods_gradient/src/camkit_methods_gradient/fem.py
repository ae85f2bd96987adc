"""FEM: channels that have rare strong activations."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import positions, spatial_mean, weighted_sum


class FEM(MethodModel):
    """sum_k w_k A_k with w_k = share of positions where A_k > mean_k + sigmas * std_k.

    Fuad et al., Features Understanding in 3D CNNs for Actions Recognition in Video, IPTA 2020,
    hal-02963298. The same map for every class. std is the population's.
    """

    name: ClassVar[str] = "fem"
    needs: ClassVar[Need] = Need.ACTIVATIONS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    sigmas: float = Field(2.0, ge=0, description="how many standard deviations make it rare")
    variant: Literal["paper", "xplique"] = Field(
        "paper", description="xplique: that library's sum_k mean(A_k) * (where A_k is rare)"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        axes = positions(activations)
        mean = activations.mean(axes, keepdim=True)
        std = activations.std(axes, correction=0, keepdim=True)
        rare = (activations > mean + self.sigmas * std).to(activations.dtype)
        if self.variant == "xplique":
            return weighted_sum(spatial_mean(activations), rare)
        return weighted_sum(spatial_mean(rare), activations)
