"""A small network for the whole gradient family, and the core's own proof of an unchanged model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camkit_core import Entry, default_registry

sys.path.insert(0, str(Path(__file__).parents[1] / "camkit_core"))

from core_proof.checks import close, same, telling
from core_proof.networks import CONV, SIZES, fill
from core_proof.snapshot import unchanged

__all__ = ["FAMILY", "Net", "alone", "close", "family", "pictures", "same", "telling", "unchanged"]

NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def family() -> tuple[Entry, ...]:
    """Entries of the gradient package, but those for networks with attention only."""
    found = [
        entry
        for entry in default_registry().entries("method")
        if entry.distribution == "camkit-methods-gradient" and "attention" not in entry.needs
    ]
    assert len(found) >= 20, [entry.name for entry in found]
    return tuple(found)


FAMILY = tuple(entry.name for entry in family())
CLASSES = 6


class Net(nn.Module):
    """Convolutions with ReLU, average pooling, a linear layer; `late` feeds the pooling.

    `mid` returns what is before its ReLU, `late` what is behind it.
    """

    def __init__(self, dims: int = 2, inplace: bool = False) -> None:
        super().__init__()
        conv, width = CONV[dims], 8
        self.stem = nn.Sequential(
            conv(3, width, 3, padding=1), NORM[dims](width), nn.ReLU(inplace=inplace)
        )
        self.mid = conv(width, width, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.late = nn.Sequential(conv(width, width, 3, padding=1), nn.ReLU(inplace=inplace))
        self.head = nn.Linear(width, CLASSES)
        self.inplace = inplace
        fill(self, seed=2)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        z = F.relu(self.mid(self.stem(x)), inplace=self.inplace)
        return self.finish(self.late(self.drop(z)))

    def finish(self, z: Tensor) -> Any:
        return self.head(z.flatten(2).mean(2))


def pictures(n: int = 3, dims: int = 2, seed: int = 0) -> Tensor:
    """`[n, 3, *S]`: noise around a bright corner of each image's own."""
    generator = torch.Generator().manual_seed(seed)
    size = SIZES[dims]
    x = torch.randn(n, 3, *size, generator=generator, dtype=torch.float64)
    for row in range(n):
        half = tuple(slice(0, s // 2) if row % 2 else slice(s // 2, s) for s in size)
        x[(row, slice(None), *half)] += 2.0
    return x


def alone(name: str) -> list[str]:
    """Layers a method is asked for alone: CAM reads the one that feeds the pooling."""
    return ["late"] if name == "cam" else ["mid", "late"]
