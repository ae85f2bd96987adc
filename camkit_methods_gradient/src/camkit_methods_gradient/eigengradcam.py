"""Eigen-Grad-CAM: first component of gradients times activations."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import align, first_component


class EigenGradCAM(MethodModel):
    """Projection of G * A (positions x channels) on its first right-singular vector.

    Eigen-CAM (arXiv:2008.00299) applied to gradient times activation, from the pytorch-grad-cam
    library (no paper). The sign follows sum_k G_k A_k.
    """

    name: ClassVar[str] = "eigengradcam"
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

    variant: Literal["uncentered", "grad-cam"] = Field(
        "uncentered",
        description="uncentered: as in Eigen-CAM's paper; grad-cam: that library centers positions",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        weighted = capture.gradients * capture.activations
        projection = first_component(weighted, center=self.variant == "grad-cam")
        return align(projection, weighted.sum(1))
