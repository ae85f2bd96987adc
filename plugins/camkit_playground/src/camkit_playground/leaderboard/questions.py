"""What is asked of the pictures: each is explained once for each of its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from camkit_core import InputError, Truth
from camkit_playground.duo import batch

if TYPE_CHECKING:
    from camkit_playground.duo import Mosaic, Scene


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """N pictures with T objects each."""

    images: Tensor  # [N, 3, H, W]
    classes: Tensor  # [N, T]: what is asked of each picture, one object at a time
    truths: tuple[Truth, ...]  # T, each with masks [N, H, W]

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    @property
    def targets(self) -> list[list[int]]:
        """Targets for `compare`: T lists with one class per image."""
        return [[int(value) for value in column] for column in self.classes.T]

    def part(self, rows: slice) -> Questions:
        """Some of the pictures."""
        truths = tuple(
            Truth(
                target=truth.target[rows],
                rivals=None if truth.rivals is None else truth.rivals[rows],
                cell=None if truth.cell is None else truth.cell[rows],
            )
            for truth in self.truths
        )
        return Questions(self.images[rows], self.classes[rows], truths)


def questions(pictures: Sequence[Scene] | Sequence[Mosaic]) -> Questions:
    """Questions and right answers for scenes or mosaics with equally many objects.

    The rivals of an object are all other objects; in a mosaic its cell is known too.

    Raises:
        InputError: no picture, or pictures with different numbers of objects.
    """
    if not pictures:
        raise InputError("no picture to ask about: a leaderboard needs at least one scene")
    images, masks, labels = batch(pictures)
    counts = sorted(set(labels.sum(1).tolist()))
    if len(counts) > 1:
        raise InputError(
            f"pictures with {' and '.join(map(str, counts))} objects cannot be asked together: "
            "explain those with equally many objects in one call"
        )
    classes = labels.nonzero()[:, 1].reshape(len(images), -1)
    cells = _cells(pictures)
    return Questions(images, classes, tuple(_truth(masks, cells, c) for c in classes.T))


def _cells(pictures: Sequence[Scene] | Sequence[Mosaic]) -> Tensor | None:
    found = [torch.from_numpy(p.cells) for p in pictures if hasattr(p, "cells")]
    return torch.stack(found) if found else None


def _truth(masks: Tensor, cells: Tensor | None, asked: Tensor) -> Truth:
    """Right answers `[N, H, W]` for one class per picture `[N]`."""
    rows = torch.arange(len(masks))
    target = masks[rows, asked]
    return Truth(
        target=target,
        rivals=masks.any(1) & ~target,
        cell=None if cells is None else cells[rows, asked],
    )
