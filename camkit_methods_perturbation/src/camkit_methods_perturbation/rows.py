"""Lazy rows: every image of the batch with every change, built a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from camkit_core import Rows

Build = Callable[[Tensor, Tensor], Tensor]
"""`build(owner [m], change [m]) -> rows [m, ...]`: row i is image `owner[i]`, changed."""


class Changes:
    """Image 0 with changes 0, 1, ..., then image 1, and so on; only what is asked for exists.

    Args:
        images: number of images N.
        each: number of changes of every image.
        build: makes the rows of a slice.
        device: of the images.
    """

    def __init__(self, images: int, each: int, build: Build, device: torch.device) -> None:
        self.owner = torch.arange(images, device=device).repeat_interleave(each)
        self._each, self._build = each, build

    def __len__(self) -> int:
        """N times the number of changes."""
        return len(self.owner)

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Rows `rows`."""
        start, stop, step = rows.indices(len(self))
        index = torch.arange(start, stop, step, device=self.owner.device)
        return self._build(self.owner[rows], index % self._each)


def ask(run: Callable[[Rows], Tensor], like: Tensor, each: int, build: Build) -> Tensor:
    """Scores `[N, each]` of every image with every change; `like` is `[N, ...]`."""
    if not each:
        return torch.zeros(len(like), 0, dtype=like.dtype, device=like.device)
    rows = Changes(len(like), each, build, like.device)
    return run(rows).reshape(len(like), each)


def masked(images: Tensor, masks: Build, fill: Tensor | None = None) -> Build:
    """Images times masks, on zero or on `fill`: x * M + fill * (1 - M).

    Shapes: images and fill `[N, C, *S]`; masks build `[m, *S]`.
    """

    def build(owner: Tensor, change: Tensor) -> Tensor:
        mask = masks(owner, change)[:, None]
        shown = images[owner] * mask
        return shown if fill is None else shown + fill[owner] * (1 - mask)

    return build


def replaced(activations: Tensor, channels: Tensor, values: Tensor) -> Build:
    """Activations with one channel set to a constant.

    Shapes: activations `[N, K, *S]`, channels `[N, R]` (which one in each change), values `[N]`.
    """

    def build(owner: Tensor, change: Tensor) -> Tensor:
        changed = activations[owner]
        row = torch.arange(len(owner), device=owner.device)
        value = values[owner].reshape(-1, *(1,) * (activations.ndim - 2))
        changed[row, channels[owner, change]] = value.expand_as(changed[:, 0])
        return changed

    return build


def scaled(activations: Tensor, weights: Callable[[Tensor], Tensor]) -> Build:
    """Activations times a factor per change, the same for every image.

    Shapes: activations `[N, K, *S]`; `weights(change [m])` broadcasts to `[m, K, *S]`.
    """

    def build(owner: Tensor, change: Tensor) -> Tensor:
        return activations[owner] * weights(change)

    return build


def windows(axes: Sequence[Tensor], change: Tensor) -> Tensor:
    """Products of one row per axis, `[m, *S]`: window `change` of the grid that the rows span.

    Shapes: axes `[count_a, S_a]`; change `[m]` counts through the grid in row-major order.
    """
    index = torch.unravel_index(change, tuple(len(axis) for axis in axes))
    found = torch.ones(len(change), dtype=axes[0].dtype, device=change.device)
    for axis, chosen in zip(axes, index, strict=True):
        found = found[..., None] * axis[chosen].reshape(len(change), *(1,) * (found.ndim - 1), -1)
    return found


def painted(values: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """Sum of values `[N, *counts]` times their windows, `[N, *S]`."""
    for position, axis in enumerate(axes, start=1):
        values = (values.movedim(position, -1) @ axis.to(values)).movedim(-1, position)
    return values
