"""From relevance to RGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from cmap import Colormap
from numpy.typing import NDArray

from camkit_core import OptionError, near
from camkit_render.look import Look

Pixels: TypeAlias = NDArray[np.uint8]
"""`[H, W, 3]`, red green blue, in the photo's own color space."""
Values: TypeAlias = NDArray[np.float32]
"""`[H, W]`, relevance in [0, 1], or in [-1, 1] if signed."""
Mask: TypeAlias = NDArray[np.bool_]
"""`[H, W]`, where the model looked at all."""

DIVERGING = "matplotlib:coolwarm"
_BAND = 256  # rows blended at a time: a large photo needs no large float copies


@dataclass(frozen=True, eq=False)
class Colors:
    """A color table; of odd length for signed values, so that its middle entry is exactly 0."""

    table: Pixels  # [levels, 3]
    signed: bool

    def of(self, values: Values) -> Pixels:
        """Color of every value: 0 is the first entry (signed: -1 is), 1 the last."""
        position = (values + 1) / 2 if self.signed else values
        picked: Pixels = self.table[np.rint(position * (len(self.table) - 1)).astype(np.intp)]
        return picked


def colors_of(look: Look, signed: bool) -> Colors:
    """The color table a look asks for.

    Raises:
        OptionError: no such color map.
    """
    if not signed:
        return Colors(_table(look.colormap, 256), signed=False)
    name = look.signed_colormap
    if name is None:
        name = look.colormap if _find(look.colormap).category == "diverging" else DIVERGING
    return Colors(_table(name, 255), signed=True)


@lru_cache(maxsize=32)
def _table(name: str, levels: int) -> Pixels:
    table: Pixels = np.rint(_find(name).lut(levels)[:, :3] * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def _find(name: str) -> Colormap:
    if not isinstance(name, str):
        raise OptionError(f"a color map is named by a string such as 'inferno', got {name!r}")
    try:
        return Colormap(name)
    except ValueError as error:
        catalog = Colormap.catalog()
        names = [*catalog.short_keys(), *catalog.namespaced_keys()]
        raise OptionError(
            f"no color map is called {name!r}{near(name, names)}; any name of the cmap package "
            "works, such as 'inferno', 'viridis', 'jet', with '_r' appended to reverse it"
        ) from error


def paint(
    picture: Pixels, values: Values, inside: Mask, colors: Colors, *, alpha: float, flat: bool
) -> Pixels:
    """The map over the picture: `picture + opacity * (color - picture)`, rounded.

    `opacity` is `alpha * |value|` (`alpha` itself if `flat`) inside the model's view and 0
    outside, so that a pixel without relevance keeps its three bytes.
    """
    out = picture.copy()
    for top in range(0, len(picture), _BAND):
        rows = slice(top, top + _BAND)
        strength = np.full_like(values[rows], alpha) if flat else alpha * np.abs(values[rows])
        opacity = np.where(inside[rows], strength, 0).astype(np.float32)[..., None]
        below = picture[rows].astype(np.float32)
        out[rows] = np.rint(below + opacity * (colors.of(values[rows]) - below)).astype(np.uint8)
    return out
