"""Training pictures: drawn once, then flipped and shifted in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from camkit_playground.duo.tensors import normalized
from camkit_playground.train.recipes import HEART, Draw

SHIFT = 4
"""Largest shift of a batch, pixels."""


def draw_pool(
    draw: Draw, count: int, kind: str, *, start: int = 0, tell: Callable[[str], None] = print
) -> tuple[Tensor, Tensor]:
    """Pictures `[N, H, W, 3]` uint8 and labels `[N, 8]` float of the seeds from `start` on."""
    images, labels = [], []
    for seed in range(start, start + count):
        drawn, heart = draw(seed, kind)
        labelled = drawn.labels.astype(np.float32)
        labelled[HEART] = heart
        images.append(drawn.image)
        labels.append(labelled)
        if len(images) % 8000 == 0:
            tell(f"{len(images)} of {count} pictures drawn")
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def batches(
    images: Tensor, labels: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of full batches in random order, augmented and normalised."""
    order = torch.randperm(len(images), generator=generator)
    for rows in order[: len(order) // size * size].view(-1, size):
        yield _augmented(normalized(images[rows]), generator), labels[rows]


def _augmented(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture flipped or not; the batch shifted, its border mirrored."""
    flip = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    batch = torch.where(flip, batch.flip(-1), batch)
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    height, width = batch.shape[-2:]
    padded = functional.pad(batch, (SHIFT,) * 4, mode="reflect")
    top, left = SHIFT + down, SHIFT + right
    return padded[..., top : top + height, left : left + width].contiguous()
