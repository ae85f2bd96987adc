"""gScoreCAM: Score-CAM on the channels with the largest gradients."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import (
    MaskOrder,
    Normalize,
    mask_builder,
    normalized,
    spatial_mean,
    weighted_sum,
)
from camkit_methods_perturbation.rows import ask, masked


class GScoreCAM(MethodModel):
    """sum_k w_k A_k over the `top` channels of largest mean gradient, w = softmax_k(f(x * H_k)).

    Chen et al., gScoreCAM: What objects is CLIP looking at?, ACCV 2022. With all channels this is
    Score-CAM.
    """

    name: ClassVar[str] = "gscorecam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.SCORE_SHIFT}
    )
    runs: ClassVar[str] = "1F + 1B + 300 F"

    top: int = Field(300, ge=1, description="number of channels to score")
    variant: Literal["paper", "authors"] = Field(
        "paper",
        description="paper: other channels have no weight; authors: their code gives them the "
        "score 0 before the softmax, and aligns corners",
    )
    normalize: Normalize = Field("softmax", description="how scores become weights")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        activations, images = capture.activations, capture.inputs
        gains = spatial_mean(capture.gradients)
        top = gains.topk(min(self.top, gains.shape[1]), 1).indices
        order: MaskOrder = "grad-cam" if self.variant == "authors" else "paper"
        every = mask_builder(activations, tuple(images.shape[2:]), order)
        build = masked(images, lambda owner, change: every(owner, top[owner, change]))
        scores = ask(capture.scores, images, top.shape[1], build)
        empty = torch.zeros(gains.shape, dtype=scores.dtype, device=scores.device)
        if self.variant == "authors":
            return normalized(empty.scatter(1, top, scores), self.normalize)
        return empty.scatter(1, top, normalized(scores, self.normalize))
