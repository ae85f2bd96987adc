"""The eight classes: four families of hue, two shapes in each.

Color alone never names a class, so an explanation that follows color only is found out.
"""

from __future__ import annotations

import colorsys
import operator
from dataclasses import dataclass

import numpy as np

from camkit_core import InputError, near

CLASS_NAMES = (
    "red disk",
    "red star",
    "green square",
    "green cross",
    "blue triangle",
    "blue ring",
    "gold heart",
    "gold crescent",
)


@dataclass(frozen=True, slots=True)
class Family:
    """Ranges of hue, saturation and value, each in [0, 1]."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]

    def color(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """One RGB color of the family, in [0, 1]."""
        draws = rng.random(3).tolist()
        ranges = (self.hue, self.saturation, self.value)
        hue, saturation, value = (
            low + (high - low) * draw for (low, high), draw in zip(ranges, draws, strict=True)
        )
        return colorsys.hsv_to_rgb(hue % 1, saturation, value)


FAMILIES = (
    Family((-0.025, 0.02), (0.78, 0.95), (0.74, 0.95)),  # red
    Family((0.31, 0.40), (0.70, 0.92), (0.50, 0.78)),  # green
    Family((0.57, 0.64), (0.72, 0.92), (0.72, 0.95)),  # blue
    Family((0.115, 0.14), (0.78, 0.95), (0.86, 0.98)),  # gold
)
"""Family of class k is `FAMILIES[k // 2]`."""


def class_index(name: int | str) -> int:
    """Index of a class given by name or index.

    Raises:
        InputError: there is no such class; the message has near misses.
    """
    if isinstance(name, str):
        if name in CLASS_NAMES:
            return CLASS_NAMES.index(name)
        hint = near(name, CLASS_NAMES) or f"; expected one of {', '.join(CLASS_NAMES)}"
        raise InputError(f"Duo has no class {name!r}{hint}")
    index = operator.index(name)
    if not 0 <= index < len(CLASS_NAMES):
        raise InputError(f"Duo has classes 0 to {len(CLASS_NAMES) - 1}, not {index}")
    return index
