"""A Gaussian at the center of the picture, a control."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class CenterGaussian(MethodModel):
    """exp(-r^2 / 2) with r the distance from the center in units of `sigma` times each side.

    A control: many pictures have their object in the middle. Works in input space.
    """

    name: ClassVar[str] = "gaussian"
    needs: ClassVar[Need] = Need.NONE
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.CHANNEL_RESCALING,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    sigma: float = Field(0.25, gt=0, description="standard deviation, as a share of each side")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        image = capture.inputs
        total = torch.zeros(image.shape[2:], dtype=image.dtype, device=image.device)
        for axis, length in enumerate(total.shape):
            centers = torch.arange(length, dtype=image.dtype, device=image.device) + 0.5
            distance = (centers / length - 0.5) / self.sigma
            total = total + distance.square().reshape(-1, *(1,) * (total.ndim - 1 - axis))
        return torch.exp(-total / 2).expand(len(image), *total.shape)
