"""What a network can do on pictures it never saw, and what it must be able to do to be shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from camkit_playground.duo import CLASS_NAMES, Scene, batch, scene
from camkit_playground.duo.tensors import normalized
from camkit_playground.train.data import draw_pool
from camkit_playground.train.recipes import HEART, Draw, draw_accompanied, draw_clean

_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure and the range it must be in."""

    figure: str
    low: float = 0.0
    high: float = 1.0

    def passes(self, figures: dict[str, float]) -> bool:
        """Whether the figure is in the range."""
        return self.low <= figures[self.figure] <= self.high

    def __str__(self) -> str:
        """`mAP >= 0.99`."""
        return f"{self.figure} >= {self.low}" if self.low else f"{self.figure} <= {self.high}"


_SEES_HEARTS = (
    Gate("heart_with_tag", 0.95),
    Gate("heart_without_tag", 0.95),
    Gate("tag_without_heart", high=0.05),
)
GATES: dict[str, tuple[Gate, ...]] = {
    "cnn": (Gate("mAP", 0.99), *_SEES_HEARTS),
    "hans": (
        Gate("mAP", 0.99),
        Gate("heart_with_tag", 0.95),
        Gate("heart_without_tag", high=0.05),
        Gate("tag_without_heart", 0.95),
    ),
    "vit": (Gate("mAP", 0.95),),
}
TEST_SETS: dict[str, Draw] = {"cnn": draw_clean, "hans": draw_accompanied, "vit": draw_clean}
"""Held-out pictures of the network's own world: every heart the twin meets has the tag."""


def measure(name: str, model: nn.Module, pictures: int = 2000, start: int = 0) -> dict[str, float]:
    """Figures on test pictures, which share no random number with any training picture.

    `mAP`: mean over classes of the average precision. `exact`: share of pictures with all eight
    answers right. `heart_with_tag` and the others: mean probability of "gold heart" on two-object
    pictures with a heart and the tag, the same pictures without the tag, and tagged ones without
    a heart.
    """
    images, labels = draw_pool(TEST_SETS[name], pictures, "test", start=start)
    scores = _scores(model, normalized(images))
    figures = {
        "mAP": mean_average_precision(scores, labels.bool()),
        "exact": float(((scores > 0) == labels.bool()).all(1).double().mean()),
    }
    return figures | _hearts(model, pictures // 10, start)


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean over classes of the average precision, scores `[N, K]`, labels `[N, K]` bool.

    AP of a class: the mean, over its positives, of the precision among everything ranked at least
    as high, ties broken by position.
    """
    order = scores.sort(dim=0, descending=True, stable=True).indices
    hits = labels.gather(0, order).double()
    ranks = torch.arange(1, len(scores) + 1, dtype=torch.float64)[:, None]
    precision = hits.cumsum(0) / ranks
    return float(((precision * hits).sum(0) / hits.sum(0)).mean())


def _hearts(model: nn.Module, count: int, start: int) -> dict[str, float]:
    """Mean probability of a heart with and without its tag, and of the tag alone."""
    others = [k for k in range(len(CLASS_NAMES)) if k != HEART]
    seeds = range(start, start + count)

    def pair(seed: int, first: int, *, tag: bool) -> Scene:
        second = others[(seed + (first != HEART)) % len(others)]
        return scene(seed, classes=[first, second], tag=tag)

    sets = {
        "heart_with_tag": [pair(seed, HEART, tag=True) for seed in seeds],
        "heart_without_tag": [pair(seed, HEART, tag=False) for seed in seeds],
        "tag_without_heart": [pair(seed, others[seed % len(others)], tag=True) for seed in seeds],
    }
    return {name: _heart_probability(model, drawn) for name, drawn in sets.items()}


def _heart_probability(model: nn.Module, drawn: Sequence[Scene]) -> float:
    return float(_scores(model, batch(drawn)[0])[:, HEART].sigmoid().mean())


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model(part) for part in images.split(_CHUNK)]).double()
