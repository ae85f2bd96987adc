"""RISE: random masks, each weighted by the score of the image seen through it."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.rows import ask, masked

_MASKS_AT_ONCE = 64


class RISE(MethodModel):
    """1 / (n p) sum_i f(x * M_i) M_i over n random masks; works in input space, on any model.

    Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018,
    arXiv:1806.07421, eq. 6. A mask is a random `grid` of cells that are 1 with probability p,
    enlarged linearly by one cell more than the image and cut out at a random place. All images of
    a call get the same masks, drawn from `seed=`.
    """

    name: ClassVar[str] = "rise"
    needs: ClassVar[Need] = Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + 4000 F"

    masks: int = Field(4000, ge=1, description="number of random masks")
    grid: int = Field(7, ge=1, description="cells per side of a mask")
    p: float = Field(0.5, gt=0, lt=1, description="probability that a cell is kept")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution."""
        images = capture.inputs
        drawn = RandomMasks(images, self.masks, self.grid, self.p, capture.generator)
        scores = ask(
            capture.scores, images, self.masks, masked(images, lambda _, change: drawn(change))
        )
        return drawn.weighted(scores) / (self.masks * self.p)


class RandomMasks:
    """Masks `[m, *S]` by number, all of them remembered as a few cells and a place."""

    def __init__(
        self, images: Tensor, masks: int, grid: int, p: float, generator: torch.Generator
    ) -> None:
        size, device = images.shape[2:], images.device
        cells = (masks, *(grid,) * len(size))
        drawn = torch.rand(cells, generator=generator, dtype=torch.float32, device=device)
        self._cells = (drawn < p).to(images.dtype)
        self._enlarge, self._start = [], []
        for length in size:
            cell = -(-length // grid)
            self._enlarge.append(_linear(grid, (grid + 1) * cell).to(images))
            self._start.append(torch.randint(cell, (masks,), generator=generator, device=device))
        self._size = size

    def __call__(self, numbers: Tensor) -> Tensor:
        """Masks of these numbers `[m]`."""
        found = self._cells[numbers]
        for axis, length in enumerate(self._size, start=1):
            offset = torch.arange(length, device=numbers.device)
            place = self._start[axis - 1][numbers, None] + offset
            weights = self._enlarge[axis - 1][place]  # [m, length, grid]
            moved = found.movedim(axis, 1)
            flat = weights @ moved.flatten(2) if moved.ndim > 2 else weights @ moved[..., None]
            found = flat.reshape(len(numbers), length, *moved.shape[2:]).movedim(1, axis)
        return found

    def weighted(self, scores: Tensor) -> Tensor:
        """sum_i s_i M_i, `[N, *S]`, of scores `[N, masks]`."""
        total = self._cells.new_zeros(len(scores), math.prod(self._size))
        for part in torch.arange(scores.shape[1], device=total.device).split(_MASKS_AT_ONCE):
            total += (scores[:, part, None] * self(part).flatten(1)).sum(1)
        return total.reshape(len(scores), *self._size)


def _linear(source: int, target: int) -> Tensor:
    """`[target, source]`: linear interpolation between cell centers, ends extended."""
    place = (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    cells = torch.arange(source, dtype=torch.float64)
    return (1 - (place.clamp(0, source - 1)[:, None] - cells).abs()).clamp_min(0)
