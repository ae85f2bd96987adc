"""Boxes `x0, y0, x1, y1`: overlap, parts, and which of many say the same thing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "x0": lambda boxes: boxes[..., 0],
    "y0": lambda boxes: boxes[..., 1],
    "x1": lambda boxes: boxes[..., 2],
    "y1": lambda boxes: boxes[..., 3],
    "cx": lambda boxes: (boxes[..., 0] + boxes[..., 2]) / 2,
    "cy": lambda boxes: (boxes[..., 1] + boxes[..., 3]) / 2,
    "width": lambda boxes: boxes[..., 2] - boxes[..., 0],
    "height": lambda boxes: boxes[..., 3] - boxes[..., 1],
}
"""What can be explained of a box itself, `[..., 4] -> [...]`."""


def overlap(ours: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union `[..., P, B]` of boxes `[..., P, 4]` and `[..., B, 4]`.

    Two boxes without area overlap if they are the same, so that every box is found again.
    Differentiable. Where a box is compared with itself the derivative is zero, as at any maximum.
    """
    one, other = ours[..., :, None, :], theirs[..., None, :, :]
    start = torch.maximum(one[..., :2], other[..., :2])
    end = torch.minimum(one[..., 2:], other[..., 2:])
    shared = (end - start).clamp_min(0).prod(-1)
    union = _area(one) + _area(other) - shared
    same = (one == other).all(-1).to(shared.dtype)
    return (shared / union.where(union > 0, 1.0)).where(union > 0, same)


def from_center(boxes: Tensor) -> Tensor:
    """`cx, cy, width, height` as `x0, y0, x1, y1`."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def distinct(boxes: Tensor, scores: Tensor, classes: Tensor, most: int, iou: float) -> Tensor:
    """Places of the `most` best of B boxes that do not repeat a better one of their class.

    Shapes: boxes `[B, 4]`, scores and classes `[B]`. Greedy suppression of what overlaps by more
    than `iou`, best first.
    """
    left = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while len(left) and len(kept) < most:
        kept.append(left[0])
        same = overlap(boxes[left[:1]], boxes[left])[0] > iou
        same &= classes[left] == classes[left[0]]
        same[0] = True  # whatever the threshold, it is taken
        left = left[~same]
    return torch.stack(kept) if kept else left


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
