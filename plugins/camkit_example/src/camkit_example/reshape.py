"""Layers that return `[N, C, P]`: a picture whose positions were flattened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from camkit_core import LayoutError


@dataclass(frozen=True)
class Flat:
    """`[N, C, P]` to `[N, C, *S]` with P = the product of S, and back.

    Attributes:
        grid: S as in `"14x20"`; empty for a square picture.
    """

    grid: str = ""

    def to_spatial(self, output: Tensor, /) -> Tensor:
        """`[N, C, *S]`. Only moves numbers: it is applied to gradients as well.

        Raises:
            LayoutError: there are no positions, or they do not form this grid.
        """
        if output.ndim != 3:
            raise LayoutError(f"the layer returns {list(output.shape)}, expected [N, C, P]")
        side = math.isqrt(output.shape[2])
        sizes = [int(size) for size in self.grid.split("x")] if self.grid else [side, side]
        if math.prod(sizes) != output.shape[2]:
            raise LayoutError(
                f"{output.shape[2]} positions do not form a {'x'.join(map(str, sizes))} grid; "
                "say it as reshape='example_flat:grid=14x20'"
            )
        return output.reshape(*output.shape[:2], *sizes)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Tensor:
        """The inverse, for methods that put changed activations back into the model."""
        return maps.flatten(2)
