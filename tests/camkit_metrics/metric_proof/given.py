"""Explanations and truths made by hand; no model runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from camkit_core import Evidence, Explanation, Provenance, TargetInfo, Truth
from camkit_metrics.contrast import Contrast
from camkit_metrics.energy import Energy
from camkit_metrics.gridpg import GridPG
from camkit_metrics.iou import IoU
from camkit_metrics.pointing import Pointing
from camkit_metrics.rankaccuracy import RankAccuracy

METRICS = (Energy, Contrast, GridPG, Pointing, IoU, RankAccuracy)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def explained(maps: Any, inputs: Tensor | None = None) -> Explanation:
    """An explanation with these display maps `[N, *S]`."""
    maps = torch.as_tensor(maps)
    inputs = torch.zeros(len(maps), 3, *maps.shape[1:]) if inputs is None else inputs
    provenance = Provenance(
        method="given",
        parameters={},
        package="tests",
        version="0",
        core_version="0",
        layers=(),
        reshape={},
        target="given",
        seed=0,
        dtype=str(maps.dtype),
        device=str(maps.device),
        input_shape=tuple(inputs.shape),
        post=(),
        forwards=0,
        backwards=0,
    )
    return Explanation(
        maps=maps,
        raw={},
        score=torch.zeros(len(maps)),
        output=torch.zeros(len(maps), 2),
        inputs=inputs,
        target=TargetInfo(kind="class", label="given"),
        provenance=provenance,
    )


def truth(target: Any, rivals: Any = None, cell: Any = None) -> Evidence:
    """Evidence with these masks."""
    masks = [None if m is None else torch.as_tensor(m).bool() for m in (target, rivals, cell)]
    assert masks[0] is not None
    return Evidence(truth=Truth(target=masks[0], rivals=masks[1], cell=masks[2]))


def boxes(count: int, *size: int, seed: int = 0) -> Evidence:
    """One target and one rival box per image, apart along the first axis, in cells that halve it.

    The boxes have different sizes and places; the cell is the half that holds the target.
    """
    generator = torch.Generator().manual_seed(seed)
    half = size[0] // 2
    target, rivals, cell = (torch.zeros(count, *size, dtype=torch.bool) for _ in range(3))
    for row in range(count):
        ours = _box((half, *size[1:]), generator)
        theirs = _box((half, *size[1:]), generator)
        swapped = bool(torch.randint(2, (), generator=generator))
        first, second = slice(0, half), slice(half, 2 * half)
        here, there = (second, first) if swapped else (first, second)
        target[row, here], rivals[row, there], cell[row, here] = ours, theirs, True
    return truth(target, rivals, cell)


def _box(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    where = []
    for length in size:
        side = int(torch.randint(1, length // 2 + 1, (), generator=generator))
        start = int(torch.randint(0, length - side + 1, (), generator=generator))
        where.append(slice(start, start + side))
    mask[tuple(where)] = True
    return mask
