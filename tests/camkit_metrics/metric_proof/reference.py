"""The metrics once more: pixel by pixel, in NumPy, without any of the package's code."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np


def energy(map_: Any, target: Any, rivals: Any, cell: Any) -> float:
    inside = everything = 0.0
    for place in np.ndindex(map_.shape):
        value = max(float(map_[place]), 0.0)
        everything += value
        inside += value if target[place] else 0.0
    return inside / everything if everything and target.any() else math.nan


def gridpg(map_: Any, target: Any, rivals: Any, cell: Any) -> float:
    return energy(map_, cell, None, None)


def contrast(map_: Any, target: Any, rivals: Any, cell: Any, *, per: str = "object") -> float:
    weights = []
    theirs = rivals & ~target
    if not target.any() or not theirs.any():
        return math.nan
    for mask in (target, theirs):
        values = [max(float(map_[place]), 0.0) for place in np.ndindex(map_.shape) if mask[place]]
        weights.append(sum(values) / (len(values) if per == "pixel" else 1))
    return weights[0] / sum(weights) if sum(weights) else math.nan


def pointing(map_: Any, target: Any, rivals: Any, cell: Any, *, tolerance: int = 0) -> float:
    best = float(map_.max())
    if best <= 0 or not target.any():
        return math.nan
    marked = np.argwhere(target)
    hits = [
        bool((((marked - np.array(place)) ** 2).sum(1) <= tolerance**2).any())
        for place in np.ndindex(map_.shape)
        if float(map_[place]) == best
    ]
    return sum(hits) / len(hits)


def iou(map_: Any, target: Any, rivals: Any, cell: Any, *, threshold: float | None = None) -> float:
    if map_.max() <= 0 or not target.any():
        return math.nan
    positive = sorted({float(value) for value in map_.flat if value > 0})
    cuts = positive if threshold is None else [threshold * float(map_.max())]
    overlaps = []
    for cut in cuts:
        chosen = map_ >= cut
        overlaps.append((chosen & target).sum() / (chosen | target).sum())
    return float(max(overlaps))


def rankaccuracy(map_: Any, target: Any, rivals: Any, cell: Any) -> float:
    """Probability by probability: every place's chance to be among the first K."""
    if map_.max() <= 0 or not target.any():
        return math.nan
    values = [max(float(value), 0.0) for value in map_.flat]
    size, found = int(target.sum()), Fraction(0)
    for value, inside in zip(values, target.flat, strict=True):
        above = sum(other > value for other in values)
        level = sum(other == value for other in values)
        chance = min(max(Fraction(size - above, level), Fraction(0)), Fraction(1))
        found += chance * bool(inside)
    return float(found / size)


def by_drawing(map_: Any, target: Any) -> float:
    """Rank accuracy as its definition says: the mean over every order of equal values."""
    values, marks = [max(float(v), 0.0) for v in map_.flat], list(target.flat)
    size, hits = sum(marks), []
    for order in itertools.permutations(range(len(values))):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            hits.append(sum(marks[place] for place in order[:size]) / size)
    return sum(hits) / len(hits)
