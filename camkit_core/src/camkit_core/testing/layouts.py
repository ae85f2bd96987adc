"""Layer outputs in the layouts that occur, with the picture each of them is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import LayoutError


@dataclass(frozen=True)
class TokenGrid:
    """Tokens `[N, prefix + T, C]` as `[N, C, *grid]`: the kit's own reshape."""

    prefix: int
    grid: tuple[int, ...]

    def to_spatial(self, output: Any, /) -> Tensor:
        """Without the prefix, on the grid.

        Raises:
            LayoutError: no tokens, or not as many as prefix and grid have.
        """
        count = self.prefix + math.prod(self.grid)
        if output.ndim != 3 or output.shape[1] != count:
            raise LayoutError(f"{list(output.shape)} is not [N, {count}, C]")
        found: Tensor = output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return found

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Behind the prefix tokens of `like`."""
        return torch.cat([like[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)


def numbered(n: int, channels: int, size: tuple[int, ...]) -> Tensor:
    """`[n, channels, *size]`, every value another one."""
    count = n * channels * torch.Size(size).numel()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    return (order.double() + 1).reshape(n, channels, *size)


def token_layouts() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, layer output and its picture, for square grids and 0 to 5 prefix tokens."""
    for prefix in (0, 1, 2, 5):
        picture = numbered(2, 3, (14, 14))
        extra = -numbered(2, prefix, (3,)) if prefix else picture.new_zeros(2, 0, 3)
        tokens = torch.cat([extra, picture.flatten(2).transpose(1, 2)], 1)
        yield f"{prefix} prefix tokens and a 14x14 grid", tokens, picture
