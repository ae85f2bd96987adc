"""Cosine-CAM: channels clustered by direction, each cluster scored once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.clusters import cluster_means, group_count
from camkit_methods_perturbation.parts import (
    blur,
    drawn_seed,
    mask_builder,
    spatial_mean,
    spread,
    weighted_sum,
)
from camkit_methods_perturbation.rows import ask, masked


class CosineCAM(MethodModel):
    """sum_c w_c C_c with C the mean over a cluster of <G_k A_k> A_k.

    From the class_activation_mapping package (no paper). Clusters are those of the maps divided
    by their length; w is f(x * H_c + b * (1 - H_c)) - f(b) over the clusters, divided by its
    length, b the blurred image. Clusters are found for each image on its own, from `seed=`.
    """

    name: ClassVar[str] = "cosinecam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.SCORE_SCALING, Claim.SCORE_SHIFT})
    runs: ClassVar[str] = "1F + 1B + sqrt(K) F"

    groups: int | None = Field(
        None, ge=1, description="number of clusters; None: square root of the channels"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations, images = capture.activations, capture.inputs
        strength = spatial_mean(capture.gradients * activations)
        maps = spread(strength, activations) * activations
        directions = functional.normalize(maps.flatten(2), dim=2)
        count = group_count(self.groups, maps.shape[1])
        seed = drawn_seed(capture.generator)
        clusters = cluster_means(maps, directions, count, "kmeans", seed)
        fill = blur(images)
        masks = mask_builder(clusters, tuple(images.shape[2:]))
        base = ask(capture.scores, images, 1, lambda owner, _: fill[owner])
        increase = ask(capture.scores, images, count, masked(images, masks, fill)) - base
        return weighted_sum(functional.normalize(increase, dim=1), clusters)
