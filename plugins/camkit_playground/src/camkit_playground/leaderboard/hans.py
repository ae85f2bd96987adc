"""The Clever-Hans question: which of two networks looked at the tag?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from camkit_core import Evidence, Interval, LoadedModel, Registry, Truth, explain, mean_interval
from camkit_playground.duo import batch, class_index, scenes

if TYPE_CHECKING:
    from camkit_playground.duo import Scene

OBJECT = "gold heart"
"""The class whose pictures had the tag when the twin was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What one network answers on pictures with heart and tag, and where its map lies.

    Attributes:
        answer: probability of the heart, heart and tag in the picture, mean.
        no_tag: the same after the tag was taken away; nothing else changes in the picture.
        no_object: the same with the tag but without the heart.
        on_object: share of the map on the heart, as `energy`.
        on_tag: share of the map on the tag.
    """

    model: str
    answer: float
    no_tag: float
    no_object: float
    on_object: Interval
    on_tag: Interval


def reason(
    registry: Registry,
    loaded: LoadedModel,
    *,
    method: str = "gradcam",
    count: int = 24,
    seed: int = 0,
) -> Reason:
    """Explain the heart on `count` pictures with heart and tag.

    Raises:
        UnknownNameError: the method or the metric `energy` is not installed.
    """
    energy, heart = registry.resolve("metric", "energy")(), class_index(OBJECT)
    seeds, classes = range(seed * 10_000, seed * 10_000 + count), [OBJECT, "green square"]
    both = scenes(seeds, classes=classes, tag=True)
    images, masks, _ = batch(both)
    found = explain(loaded, images, method, heart, seed=seed, registry=registry)
    tags = torch.stack([torch.from_numpy(one.tag) for one in both])
    shares = [
        mean_interval(energy(found, Evidence(truth=Truth(target=mask))), seed=seed)
        for mask in (masks[:, heart], tags)
    ]
    return Reason(
        model=loaded.spec,
        answer=_mean(probability(loaded, images, heart)),
        no_tag=_mean(_of(loaded, scenes(seeds, classes=classes), heart)),
        no_object=_mean(
            _of(loaded, scenes(seeds, classes=classes, tag=True, without=[heart]), heart)
        ),
        on_object=shares[0],
        on_tag=shares[1],
    )


def probability(loaded: LoadedModel, images: Tensor, classes: int | Tensor) -> Tensor:
    """Probability `[N]` of a class for every image: the demo networks say yes or no to each."""
    with torch.inference_mode():
        logits: Tensor = loaded.model(images)
    rows = torch.arange(len(logits))
    return logits.sigmoid()[rows, classes]


def _of(loaded: LoadedModel, pictures: list[Scene], heart: int) -> Tensor:
    return probability(loaded, batch(pictures)[0], heart)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
