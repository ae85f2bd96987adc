"""The eight shapes as tests on points, inside the unit circle of the object's own frame.

`u` points right and `v` down. Areas are of the same order, so that no class is found by its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Inside = NDArray[np.bool_]

_FIFTHS = [(math.sin(k * math.tau / 5), -math.cos(k * math.tau / 5)) for k in range(5)]
_THIRDS = [(math.sin(k * math.tau / 3), math.cos(k * math.tau / 3)) for k in range(3)]


def disk(u: Points, v: Points) -> Inside:
    """Radius 0.8."""
    return u * u + v * v <= 0.64


def star(u: Points, v: Points) -> Inside:
    """Pentagram with its first tip up, slightly fattened.

    Its five lines leave the tips on the inner side of four of them, the core of all five.
    """
    sides = sum((a * u + b * v >= -0.34).view(np.int8) for a, b in _FIFTHS)
    inside: Inside = (sides >= 4) & (u * u + v * v <= 1)
    return inside


def square(u: Points, v: Points) -> Inside:
    """Side 1.36."""
    return np.maximum(abs(u), abs(v)) <= 0.68


def cross(u: Points, v: Points) -> Inside:
    """Two bars of 1.84 x 0.62."""
    a, b = abs(u), abs(v)
    return (np.minimum(a, b) <= 0.31) & (np.maximum(a, b) <= 0.92)


def triangle(u: Points, v: Points) -> Inside:
    """Equilateral, tip up."""
    inside = [a * u + b * v <= 0.5 for a, b in _THIRDS]
    return inside[0] & inside[1] & inside[2]


def ring(u: Points, v: Points) -> Inside:
    """Radii 0.5 and 0.92."""
    square_radius = u * u + v * v
    return (square_radius <= 0.846) & (square_radius >= 0.25)


def heart(u: Points, v: Points) -> Inside:
    """A diamond with two half disks on its upper edges."""
    a = abs(u)
    diamond = a + abs(v) <= 0.69
    lobe = (a - 0.345) ** 2 + (v + 0.345) ** 2 <= 0.238
    return diamond | lobe


def crescent(u: Points, v: Points) -> Inside:
    """A disk of radius 0.96 less one of 0.8 that is shifted by 0.42."""
    bite = (u - 0.42) ** 2 + v * v <= 0.64
    return (u * u + v * v <= 0.9216) & ~bite


SHAPES: tuple[Callable[[Points, Points], Inside], ...] = (
    disk,
    star,
    square,
    cross,
    triangle,
    ring,
    heart,
    crescent,
)
"""Shape of every class, in the order of the class names."""

TURNS = (0.0, 0.3, 0.3, 0.3, 0.3, 0.0, 0.3, math.pi)
"""Largest rotation of every class, radians."""
