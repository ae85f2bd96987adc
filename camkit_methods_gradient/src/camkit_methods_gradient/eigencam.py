"""Eigen-CAM: the first principal component of the activations."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import align, first_component


class EigenCAM(MethodModel):
    """Projection of A (positions x channels) on its first right-singular vector.

    Muhammad and Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020,
    arXiv:2008.00299, eq. 4-5. The same map for every class. A component has no sign of its own;
    here its sum is positive (or, if centered, it follows sum_k A_k), so the picture does not flip
    between machines.
    """

    name: ClassVar[str] = "eigencam"
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

    variant: Literal["paper", "grad-cam"] = Field(
        "paper", description="paper: uncentered; grad-cam: that library centers positions first"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        if self.variant == "grad-cam":
            return align(first_component(activations, center=True), activations.sum(1))
        projection = first_component(activations, center=False)
        return align(projection, torch.ones_like(projection))
