"""Objects: coverage by supersampling, a color of the family, light from above."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from camkit_playground.duo.layout import Place
from camkit_playground.duo.shapes import SHAPES, TURNS

_SUB = 4
"""Samples per pixel and axis."""


def paint_object(
    image: NDArray[np.float32], index: int, place: Place, color: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Paint an object of class `index` into `[H, W, 3]` in place; returns its pixels `[H, W]`.

    A pixel is the object's if the object covers at least half of it.
    """
    size = len(image)
    rows, y = _samples(place.y, place.radius, size)
    columns, x = _samples(place.x, place.radius, size)
    turn = place.turn * TURNS[index]
    sine, cosine = np.float32(math.sin(turn)), np.float32(math.cos(turn))
    y, x = y[:, None], x[None, :]
    inside = SHAPES[index](cosine * x + sine * y, cosine * y - sine * x)
    share = inside.reshape(y.size // _SUB, _SUB, x.size // _SUB, _SUB).mean((1, 3), np.float32)
    light = np.float32(1.04) - np.float32(0.14) * y[_SUB // 2 :: _SUB, :, None]
    patch = image[rows, columns]
    patch += share[..., None] * (light * np.asarray(color, np.float32) - patch)
    mask = np.zeros((size, size), np.bool_)
    mask[rows, columns] = share >= 0.5
    return mask


def _samples(center: float, radius: float, size: int) -> tuple[slice, NDArray[np.float32]]:
    """Pixels that the circle touches on one axis, and samples in them in units of its radius."""
    start = max(math.floor((center - radius) * size), 0)
    stop = min(math.ceil((center + radius) * size), size)
    samples = np.arange((stop - start) * _SUB, dtype=np.float32)
    points = (samples + np.float32(0.5)) / np.float32(_SUB) + np.float32(start)
    return slice(start, stop), (points / np.float32(size) - np.float32(center)) / np.float32(radius)
