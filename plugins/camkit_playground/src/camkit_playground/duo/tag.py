"""The planted tag: a small bar code in a corner, the same in every picture that has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_UNIT = 1 / 64
TAG_HEIGHT, TAG_WIDTH = 8 * _UNIT, 11 * _UNIT
_MARGIN = 2 * _UNIT
_BARS = ((1, 1), (3, 2), (6, 1), (8, 2))  # left edge and width, in units
_PAPER, _INK = 0.96, 0.06


def tag_origin(corner: int) -> tuple[float, float]:
    """Top left of the tag in units of the picture; corners count top left, top right, bottom..."""
    top = _MARGIN if corner < 2 else 1 - _MARGIN - TAG_HEIGHT
    left = 1 - _MARGIN - TAG_WIDTH if corner % 2 else _MARGIN
    return top, left


def paint_tag(image: NDArray[np.float32], corner: int) -> NDArray[np.bool_]:
    """Paint the tag into `[H, W, 3]` in place; returns its pixels `[H, W]`."""
    size = len(image)
    top, left = tag_origin(corner)
    rows = covered(top, TAG_HEIGHT, size)
    columns = covered(left, TAG_WIDTH, size)
    _blend(image, rows, columns, _PAPER)
    inner = covered(top + _UNIT, TAG_HEIGHT - 2 * _UNIT, size)
    for start, width in _BARS:
        _blend(image, inner, covered(left + start * _UNIT, width * _UNIT, size), _INK)
    mask: NDArray[np.bool_] = np.outer(rows, columns) >= 0.5
    return mask


def covered(start: float, length: float, size: int) -> NDArray[np.float32]:
    """Share of every one of `size` pixels that the interval covers."""
    edges = np.arange(size + 1, dtype=np.float32)
    inside = np.clip(edges, start * size, (start + length) * size)
    return np.diff(inside).astype(np.float32)


def _blend(
    image: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    level: float,
) -> None:
    ys, xs = rows.nonzero()[0], columns.nonzero()[0]
    patch = image[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    share = np.outer(rows[ys], columns[xs])[..., None]
    patch += share * (level - patch)
