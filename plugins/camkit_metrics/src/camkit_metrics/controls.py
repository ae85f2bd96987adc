"""Maps that need no model. A method that does not beat them has shown nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from camkit_core import CapabilityError, Evidence, Explanation


class _Control(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Random(_Control):
    """Uniform noise in [0, 1), independent per pixel and image: what luck gets.

    Drawn on the CPU from a private generator, so a seed gives the same maps on every device.
    """

    name: ClassVar[str] = "random"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """`[N, *S]`."""
        maps = explanation.maps
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(maps.shape, generator=generator).to(maps)


class Center(_Control):
    """exp(-r^2 / 2), r the distance from the center in units of `sigma` times each side.

    What the habit of putting the object in the middle gets.
    """

    name: ClassVar[str] = "center"

    sigma: float = Field(0.25, gt=0, description="standard deviation, as a share of each side")

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """`[N, *S]`."""
        maps = explanation.maps
        total = torch.zeros_like(maps)
        for axis, length in enumerate(maps.shape[1:]):
            # Whole numbers until the division, so that both halves are equal to the last bit.
            twice = 2 * torch.arange(length, dtype=maps.dtype, device=maps.device) + 1 - length
            distance = twice / (2 * length * self.sigma)
            total = total + distance.square().reshape(-1, *(1,) * (maps.ndim - 2 - axis))
        return torch.exp(-total / 2)


class Sobel(_Control):
    """Magnitude of the Sobel gradient of the input's channel mean, divided by its maximum.

    What an edge detector gets, which has never seen the model. The kernel is [-1, 0, 1] along the
    axis and [1, 2, 1] along the others; borders are replicated. A flat input gives an empty map.
    """

    name: ClassVar[str] = "sobel"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """`[N, *S]`."""
        gray = explanation.inputs.detach().mean(1)
        axes = range(1, gray.ndim)
        squares = torch.stack([_sobel(gray, axis).square() for axis in axes])
        edges = squares.sum(0).sqrt()
        top = edges.amax(tuple(axes), keepdim=True)
        return (edges / torch.where(top > 0, top, torch.inf)).to(explanation.maps)


class Oracle(_Control):
    """The mask of the target itself: what the perfect answer gets."""

    name: ClassVar[str] = "oracle"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """`[N, *S]`.

        Raises:
            CapabilityError: the truth is not known.
        """
        if evidence.truth is None:
            raise CapabilityError(
                f"control {self.name} is the right answer, but no masks of it were given: pass "
                "Evidence(truth=Truth(target=...)), or leave this control out"
            )
        return evidence.truth.target.to(explanation.maps)


def _sobel(gray: Tensor, along: int) -> Tensor:
    for axis in range(1, gray.ndim):
        before, after = _shifted(gray, axis, -1), _shifted(gray, axis, 1)
        gray = after - before if axis == along else before + 2 * gray + after
    return gray


def _shifted(gray: Tensor, axis: int, step: int) -> Tensor:
    """Every position's neighbor along an axis; the border is its own neighbor."""
    length = gray.shape[axis]
    places = (torch.arange(length, device=gray.device) + step).clamp(0, length - 1)
    return gray.index_select(axis, places)
