"""Which classes a scene has, and where: drawn before anything is painted, in units of the picture.

Places do not depend on the classes, so a scene with another class in it keeps its layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from camkit_playground.duo.classes import CLASS_NAMES
from camkit_playground.duo.tag import TAG_HEIGHT, TAG_WIDTH, tag_origin

GAP = 0.04
"""Least distance between the circles around two objects, and to the tag and its place."""

_BORDER = 0.015
_RADII = {1: (0.14, 0.20), 2: (0.14, 0.20), 3: (0.13, 0.17)}
_TRIES = 40


@dataclass(frozen=True, slots=True)
class Place:
    """Circle that an object fills, and its turn: a share, in [-1, 1], of what its class allows."""

    y: float
    x: float
    radius: float
    turn: float

    def apart(self, other: Place) -> bool:
        """Whether the circles keep their distance."""
        distance = math.hypot(self.y - other.y, self.x - other.x)
        return distance > self.radius + other.radius + GAP


@dataclass(frozen=True, slots=True)
class Layout:
    """Class and place of every object, and the corner (0 to 3) kept free for the tag."""

    classes: tuple[int, ...]
    places: tuple[Place, ...]
    corner: int


def draw_layout(
    rng: np.random.Generator, objects: int, classes: Sequence[int] | None = None
) -> Layout:
    """A random layout without touching objects; `classes` replaces the drawn ones."""
    order = rng.permutation(len(CLASS_NAMES)).tolist()
    corner = int(rng.integers(4))
    places = None
    while places is None:
        places = _draw_places(rng, objects, corner)
    return Layout(tuple(order[:objects] if classes is None else classes), places, corner)


def _draw_places(rng: np.random.Generator, objects: int, corner: int) -> tuple[Place, ...] | None:
    """Places for all objects, or None if the last ones found no room."""
    low, high = _RADII[objects]
    places: list[Place] = []
    for radius, turn, y, x in rng.random((_TRIES, 4)).tolist():
        radius = low + (high - low) * radius
        edge = radius + _BORDER
        y, x = edge + (1 - 2 * edge) * y, edge + (1 - 2 * edge) * x
        place = Place(y, x, radius, 2 * turn - 1)
        if _off_tag(place, corner) and all(place.apart(other) for other in places):
            places.append(place)
        if len(places) == objects:
            return tuple(places)
    return None


def _off_tag(place: Place, corner: int) -> bool:
    top, left = tag_origin(corner)
    dy = max(top - place.y, place.y - top - TAG_HEIGHT, 0)
    dx = max(left - place.x, place.x - left - TAG_WIDTH, 0)
    return math.hypot(dy, dx) > place.radius + GAP
