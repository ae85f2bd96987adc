"""Cluster-CAM: clusters of similar channels, each scored once."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.clusters import cluster_means, group_count
from camkit_methods_perturbation.parts import drawn_seed, mask_builder, weighted_sum
from camkit_methods_perturbation.rows import ask, masked


class ClusterCAM(MethodModel):
    """v C_best - (1 - v) C_worst, C the mean maps of clusters of channels, v the best's weight.

    Feng et al., Cluster-CAM: Cluster-Weighted Visual Interpretation of CNNs' Decision in Image
    Classification, Neural Networks 2024, arXiv:2302.01642. Weights are softmax_c(f(x * H_c)); the
    best cluster is the paper's cognition base, the worst its scissors. `select="all"` keeps all
    clusters, sum_c w_c C_c, which is Score-CAM if every channel is its own cluster. Clusters are
    found for each image on its own, from `seed=`.
    """

    name: ClassVar[str] = "clustercam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.SCORE_SHIFT})
    runs: ClassVar[str] = "1F + sqrt(K) F"

    groups: int | None = Field(
        None, ge=1, description="number of clusters; None: square root of the channels"
    )
    clustering: Literal["kmeans", "spectral"] = Field(
        "kmeans", description="spectral needs scikit-learn"
    )
    select: Literal["extremes", "all"] = Field("extremes", description="which clusters count")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations, images = capture.activations, capture.inputs
        count = group_count(self.groups, activations.shape[1])
        seed = drawn_seed(capture.generator)
        clusters = cluster_means(activations, activations.flatten(2), count, self.clustering, seed)
        masks = mask_builder(clusters, tuple(images.shape[2:]))
        weights = ask(capture.scores, images, count, masked(images, masks)).softmax(1)
        return weighted_sum(self._selected(weights), clusters)

    def _selected(self, weights: Tensor) -> Tensor:
        if self.select == "all":
            return weights
        value, best = weights.max(1, keepdim=True)
        scissors = torch.zeros_like(weights).scatter(1, weights.argmin(1, keepdim=True), value - 1)
        return scissors.scatter(1, best, value)
