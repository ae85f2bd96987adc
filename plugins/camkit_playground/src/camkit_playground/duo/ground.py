"""Greyish textured backgrounds, and strokes that belong to no class.

Everything is drawn in units of the picture, so a scene looks the same at every size. Textures use
plain arithmetic and square roots, whose results do not depend on the library that computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Plane, Plane]:
    """Centers of all pixels: y `[H, 1]`, x `[1, W]`."""
    centers = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centers[:, None], centers[None, :]


def paint_ground(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Background `[H, W, 3]` in about [0, 1]: grey, slightly tinted, textured, unevenly lit."""
    level, depth, light = rng.random(3)
    texture = _TEXTURES[int(rng.integers(len(_TEXTURES)))](rng, size)
    shade = (0.40 + 0.28 * level) + (0.04 + 0.08 * depth) * texture
    shade = shade + (0.02 + 0.06 * light) * _ramp(rng, size)
    tint = 1 + 0.07 * (rng.random(3) - 0.5)
    image: NDArray[np.float32] = shade[..., None] * tint.astype(np.float32)
    for _ in range(int(rng.integers(2, 6))):
        _paint_stroke(rng, image)
    return image


# -- textures in [-1, 1] -------------------------------------------------------------------------


def _stripes(rng: np.random.Generator, size: int) -> Plane:
    angle, pitch, phase, hardness = rng.random(4).tolist()
    return _wave(math.pi * angle, pitch, phase, hardness, size)


def _checks(rng: np.random.Generator, size: int) -> Plane:
    angle, pitch, first, second, hardness = rng.random(5).tolist()
    angle *= math.pi / 2
    one = _wave(angle, 0.7 * pitch, first, hardness, size)
    return one * _wave(angle + math.pi / 2, 0.7 * pitch, second, hardness, size)


def _noise(rng: np.random.Generator, size: int) -> Plane:
    coarse, fine = _clouds(rng, 6, size), _clouds(rng, 15, size)
    return 0.9 * coarse + 0.5 * fine


def _ramp(rng: np.random.Generator, size: int) -> Plane:
    y, x = grid(size)
    angle = math.tau * float(rng.random())
    return _f(2 * math.sin(angle)) * (y - _f(0.5)) + _f(2 * math.cos(angle)) * (x - _f(0.5))


_TEXTURES: tuple[Callable[[np.random.Generator, int], Plane], ...] = (
    _stripes,
    _checks,
    _noise,
    _ramp,
)


def _wave(angle: float, pitch: float, phase: float, hardness: float, size: int) -> Plane:
    """Triangle wave with 4 to 9 periods across the picture, its crests cut by the hardness."""
    y, x = grid(size)
    periods = 4 + 5 * pitch
    along = _f(periods * math.sin(angle)) * y + _f(periods * math.cos(angle)) * x + _f(phase)
    triangle = _f(4) * abs(along - np.floor(along) - _f(0.5)) - _f(1)
    wave: Plane = np.clip(_f(1 + 2.5 * hardness) * triangle, -1, 1)
    return wave


def _clouds(rng: np.random.Generator, cells: int, size: int) -> Plane:
    """Smoothly interpolated random values on a lattice."""
    values = 2 * rng.random((cells + 1, cells + 1), dtype=np.float32) - 1
    weights = _interpolation(cells, size)
    # einsum adds in a fixed order; matrix products leave it to the linear algebra library.
    rows = np.einsum("hk,kl->hl", weights, values, optimize=False)
    clouds: Plane = np.einsum("hl,wl->hw", rows, weights, optimize=False)
    return clouds


@lru_cache(maxsize=16)
def _interpolation(cells: int, size: int) -> Plane:
    """Weights `[size, cells + 1]` of the lattice points for every pixel."""
    at = grid(size)[0][:, 0] * _f(cells)
    left = np.minimum(at.astype(np.int64), cells - 1)
    t = at - left.astype(np.float32)
    t = t * t * (_f(3) - _f(2) * t)
    weights = np.zeros((size, cells + 1), np.float32)
    rows = np.arange(size)
    weights[rows, left], weights[rows, left + 1] = _f(1) - t, t
    return weights


# -- strokes -------------------------------------------------------------------------------------


def _paint_stroke(rng: np.random.Generator, image: NDArray[np.float32]) -> None:
    """One straight or bent stroke, lighter or darker than what it crosses, hardly colored."""
    bent, width, change, dark, *where = rng.random(8).tolist()
    color = (0.55 + 0.45 * change) * (0.9 + 0.2 * rng.random(3, dtype=np.float32))
    color = color * (0.25 if dark < 0.5 else 1.0)
    distance = _to_arc(where, len(image)) if bent < 0.5 else _to_line(where, len(image))
    half_width = 0.006 + 0.011 * width
    share = np.clip(_f(len(image)) * (_f(half_width) - distance) + _f(0.5), 0, 0.75)
    image += share[..., None] * (color - image)


def _to_line(where: list[float], size: int) -> Plane:
    """Distance to a line segment of length 0.2 to 0.7."""
    y, x = grid(size)
    angle, half = math.pi * where[0], 0.1 + 0.25 * where[1]
    dy, dx = y - _f(where[2]), x - _f(where[3])
    sine, cosine = _f(math.sin(angle)), _f(math.cos(angle))
    along = np.maximum(abs(sine * dy + cosine * dx) - _f(half), 0)
    across = cosine * dy - sine * dx
    distance: Plane = np.sqrt(along * along + across * across)
    return distance


def _to_arc(where: list[float], size: int) -> Plane:
    """Distance to a third of a circle, or so; its ends are cut square."""
    y, x = grid(size)
    angle, radius = math.tau * where[0], 0.12 + 0.3 * where[1]
    dy, dx = y - _f(where[2]), x - _f(where[3])
    off = abs(np.sqrt(dy * dy + dx * dx) - _f(radius))
    along = _f(math.sin(angle)) * dy + _f(math.cos(angle)) * dx
    distance: Plane = np.maximum(off, _f(0.55 * radius) - along)
    return distance


def _f(value: float) -> np.float32:
    return np.float32(value)
