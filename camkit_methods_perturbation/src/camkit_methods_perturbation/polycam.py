"""Poly-CAM: maps of several layers, the coarse ones refined by the fine ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import mask_builder, resize, spatial_mean, weighted_sum
from camkit_methods_perturbation.rows import ask, masked


class PolyCAM(MethodModel):
    """M_l = norm(relu(sum_k w_k A_k)) * resized M_{l+1}, from the coarsest layer to the finest.

    Englebert et al., Poly-CAM: High resolution class activation map for convolutional neural
    networks, 2022, arXiv:2204.13359. norm divides a map by itself, resized to the coarser layer
    and back. w_k is f(x * H_k) (plus), relu(f(x) - f(x * (1 - H_k))) (minus) or
    relu(f(x * H_k) + f(x) - f(x * (1 - H_k))) (both). f is the target; the paper has probabilities.
    One layer alone gives sum_k w_k A_k, signed.
    """

    name: ClassVar[str] = "polycam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES | Need.LAYERS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.SCORE_SCALING}
    )
    runs: ClassVar[str] = "1F + sum(K) F"

    variant: Literal["plus", "minus", "both"] = Field(
        "plus", description="score what a channel shows, what its absence hides (or both, twice)"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the finest layer's resolution."""
        return refined(capture, self.weights)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]` of one layer."""
        activations, images = capture.activations, capture.inputs
        channels = activations.shape[1]
        masks = mask_builder(activations, tuple(images.shape[2:]), "torchcam")
        if self.variant == "plus":
            return ask(capture.scores, images, channels, masked(images, masks))
        hidden = masked(images, lambda owner, change: 1 - masks(owner, change))
        loss = capture.score[:, None] - ask(capture.scores, images, channels, hidden)
        if self.variant == "minus":
            return loss.relu()
        return (ask(capture.scores, images, channels, masked(images, masks)) + loss).relu()


class PolyGradCAM(MethodModel):
    """Poly-CAM's refinement of Grad-CAM maps: w_k = mean_S dy/dA_k, from one backward pass.

    The fast sibling of Poly-CAM (arXiv:2204.13359) in the class_activation_mapping package.
    """

    name: ClassVar[str] = "polygradcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.LAYERS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    runs: ClassVar[str] = "1F + 1B"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the finest layer's resolution."""
        return refined(capture, lambda layer: spatial_mean(layer.gradients))


def refined(capture: Capture, weights: Callable[[Capture], Tensor]) -> Tensor:
    """Positive maps of all layers, multiplied from coarse to fine, `[N, *S]` of the finest.

    A single layer has nothing to multiply and keeps its sign.
    """
    # Among layers of one size the one given later is taken for the deeper one.
    layers = [capture[name] for name in reversed(capture.layers)]
    layers.sort(key=lambda layer: layer.activations[0, 0].numel())
    maps = [weighted_sum(weights(layer), layer.activations) for layer in layers]
    if len(maps) == 1:
        return maps[0]
    result = maps[0].relu()
    for found in maps[1:]:
        size = tuple(found.shape[1:])
        local = _local(found.relu(), tuple(result.shape[1:]))
        result = local * resize(result[:, None], size)[:, 0]
    return result


def _local(maps: Tensor, coarse: tuple[int, ...]) -> Tensor:
    """Maps `[N, *S]` over themselves at a coarser size; 0 where that is 0."""
    around = resize(resize(maps[:, None], coarse), tuple(maps.shape[1:]))[:, 0]
    return torch.where(around > 0, maps / around.where(around > 0, 1.0), 0.0)
