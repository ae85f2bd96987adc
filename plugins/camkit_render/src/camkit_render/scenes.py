"""Where a map is drawn: one idea for photos, signals and volumes.

A scene is a picture and the rule that lays a map on it, so that overlays and heat maps of any
number of axes are painted by the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from camkit_core import Explanation, Geometry
from camkit_render.boxes import Corner
from camkit_render.colors import Mask, Pixels, Values
from camkit_render.placement import identity, place
from camkit_render.views import fit, photo_of, resized, stretched

Lay: TypeAlias = Callable[[Tensor], tuple[Values, Mask]]
"""Map `[*S]` to its values on the canvas and the model's view there, `[H, W]` each."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture `[H, W, 3]` and how a map comes to lie on it."""

    picture: Pixels
    lay: Lay
    corner: Corner | None = None  # where a place of the model's input lies on the picture


def photo_scene(explanation: Explanation, row: int, longest: int | None) -> Scene:
    """The original photo, or the stretched input where there is none."""
    known = photo_of(explanation, row)
    if known is None:
        pixels = stretched(explanation, row)
        geometry = identity(pixels.shape[0], pixels.shape[1])
    else:
        pixels, geometry = np.asarray(known[0]), known[1]
    canvas = fit(pixels.shape[0], pixels.shape[1], longest)
    return Scene(resized(pixels, canvas), placing(geometry, canvas), _corners(geometry, canvas))


def map_scene(field: Tensor, longest: int | None) -> Scene:
    """Nothing under a 2-D map, at its own resolution or `longest`."""
    height, width = field.shape
    canvas = fit(height, width, longest)
    return Scene(np.zeros((*canvas, 3), np.uint8), placing(identity(height, width), canvas))


def _corners(geometry: Geometry, canvas: tuple[int, int]) -> Corner:
    (down, across), (top, left), source = geometry.scale, geometry.offset, geometry.source_size

    def corner(x: float, y: float) -> tuple[float, float]:
        return (left + across * x) * canvas[1] / source[1], (top + down * y) * canvas[0] / source[0]

    return corner


def placing(geometry: Geometry, canvas: tuple[int, int]) -> Lay:
    """The rule that puts a map back on the photo, drawn at `canvas`."""

    def lay(field: Tensor) -> tuple[Values, Mask]:
        values, inside = place(field, geometry, canvas)
        return values.numpy(), inside.numpy()

    return lay
