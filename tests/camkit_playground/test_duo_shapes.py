"""Areas of the shapes against their closed forms, and what tells them apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from camkit_playground.duo import CLASS_NAMES
from camkit_playground.duo.shapes import SHAPES


def lens(distance: float, first: float, second: float) -> float:
    """Area common to two disks."""
    a = (distance**2 + first**2 - second**2) / (2 * distance)
    b = distance - a
    return (
        first**2 * math.acos(a / first)
        - a * math.sqrt(first**2 - a**2)
        + second**2 * math.acos(b / second)
        - b * math.sqrt(second**2 - b**2)
    )


AREAS = {
    "red disk": 0.64 * math.pi,
    "green square": 1.36**2,
    "green cross": 2 * 1.84 * 0.62 - 0.62**2,
    "blue triangle": 3 * math.sqrt(3) / 4,
    "blue ring": (0.846 - 0.25) * math.pi,
    "gold heart": 2 * 0.69**2 + math.pi * 0.238,
    "gold crescent": 0.9216 * math.pi - lens(0.42, 0.96, 0.8),
}


def inside(name: str, side: int = 1200) -> np.ndarray:
    at = np.linspace(-1, 1, side, endpoint=False, dtype=np.float32) + np.float32(1 / side)
    return SHAPES[CLASS_NAMES.index(name)](at[None, :], at[:, None])


@pytest.mark.parametrize("name", AREAS)
def test_area(name: str) -> None:
    assert 4 * inside(name).mean() == pytest.approx(AREAS[name], rel=3e-3)


def test_a_star_has_five_tips() -> None:
    angle = np.linspace(0, math.tau, 3600, endpoint=False, dtype=np.float32)
    star = SHAPES[CLASS_NAMES.index("red star")]
    ring = star(np.float32(0.7) * np.cos(angle), np.float32(0.7) * np.sin(angle))
    assert (ring & ~np.roll(ring, 1)).sum() == 5
    core = star(np.float32(0.35) * np.cos(angle), np.float32(0.35) * np.sin(angle))
    assert core.all()


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_shapes_fill_the_unit_circle_and_nothing_outside(name: str) -> None:
    shape = inside(name)
    at = np.linspace(-1, 1, len(shape), endpoint=False) + 1 / len(shape)
    radius = np.hypot(at[None, :], at[:, None])
    assert radius[shape].max() <= 1
    assert radius[shape].max() > 0.79
    assert 0.9 < 4 * shape.mean() < 2.1


def test_no_two_shapes_of_one_hue_are_alike() -> None:
    for first, second in zip(CLASS_NAMES[::2], CLASS_NAMES[1::2], strict=True):
        assert first.split()[0] == second.split()[0]
        one, other = inside(first), inside(second)
        assert (one & other).sum() / (one | other).sum() < 0.75
