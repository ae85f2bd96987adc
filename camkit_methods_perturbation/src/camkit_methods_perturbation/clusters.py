"""Groups of similar channels: seeded, and nothing is remembered from image to image."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import CapabilityError

_ROUNDS = 100
_EXACT = "donot_use_mm_for_euclid_dist"


def group_count(asked: int | None, channels: int) -> int:
    """The number asked for, or the square root of the channels; at most one per channel."""
    return min(asked or math.ceil(math.sqrt(channels)), channels)


def cluster_means(maps: Tensor, features: Tensor, count: int, kind: str, seed: int) -> Tensor:
    """Mean map of each cluster, `[N, count, *S]`.

    Shapes: maps `[N, K, *S]`; features `[N, K, F]`, what makes channels similar.
    """
    found = []
    for image, rows in zip(maps, features, strict=True):
        labels = LABELS[kind](rows.detach().cpu().double(), count, seed).to(maps.device)
        member = functional.one_hot(labels, count).T.to(maps.dtype)
        share = member / member.sum(1, keepdim=True).clamp_min(1)
        found.append((share @ image.flatten(1)).reshape(count, *image.shape[1:]))
    return torch.stack(found)


def k_means(rows: Tensor, count: int, seed: int) -> Tensor:
    """Cluster number of each of the rows `[K, F]`: k-means++ start, then Lloyd's iteration."""
    generator = torch.Generator().manual_seed(seed)
    centers = _spread_out(rows, count, generator)
    labels = torch.full((len(rows),), -1)
    for _ in range(_ROUNDS):
        distance = torch.cdist(rows, centers, compute_mode=_EXACT)
        previous, labels = labels, distance.argmin(1)
        if torch.equal(previous, labels):
            break
        member = functional.one_hot(labels, count).T.to(rows)
        size = member.sum(1, keepdim=True)
        centers = torch.where(size > 0, member @ rows / size.clamp_min(1), centers)
    return labels


def _spread_out(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Starting centers: each new one drawn in proportion to its squared distance to the others."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    chosen = [first]
    nearest = (rows - rows[first]).square().sum(1)
    while len(chosen) < count:
        # Rows that repeat a center are taken only when nothing else is left.
        weights = nearest if float(nearest.sum()) > 0 else torch.ones_like(nearest)
        weights[chosen] = 0
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        nearest = torch.minimum(nearest, (rows - rows[chosen[-1]]).square().sum(1))
    return rows[chosen].clone()


def spectral(rows: Tensor, count: int, seed: int) -> Tensor:
    """Cluster number of each of the rows `[K, F]` by spectral clustering.

    Similarity is a Gaussian of the distance, as wide as the median distance.

    Raises:
        CapabilityError: scikit-learn is not installed.
    """
    if count >= len(rows):
        return torch.arange(len(rows))
    distance = torch.cdist(rows, rows, compute_mode=_EXACT).square()
    middle = (
        distance[distance > 0].median() if bool((distance > 0).any()) else distance.new_ones(())
    )
    clustering = _spectral_clustering()(
        n_clusters=count, affinity="precomputed", random_state=seed % 2**32
    )
    return torch.as_tensor(clustering.fit_predict(torch.exp(-distance / middle).numpy())).long()


def _spectral_clustering() -> Any:
    try:
        cluster = importlib.import_module("sklearn.cluster")
    except ImportError as error:
        raise CapabilityError(
            "spectral clustering needs scikit-learn, which is not installed; "
            "pip install 'camkit-methods-perturbation[clusters]', or use clustering=kmeans"
        ) from error
    return cluster.SpectralClustering


LABELS = {"kmeans": k_means, "spectral": spectral}
