"""Score-CAM: each channel is worth the score of the image seen through it."""

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
    weighted_sum,
)
from camkit_methods_perturbation.rows import ask, masked


class ScoreCAM(MethodModel):
    """sum_k w_k A_k with w = softmax_k(f(x * H_k) - f(0)), H_k = A_k resized, then to [0, 1].

    Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks,
    CVPRW 2020, arXiv:1910.01279, eq. 3-6. f is the target: logits by default, probabilities with
    `target="probability"`. Softmax ignores the baseline f(0), so it is run for relu and none only.
    """

    name: ClassVar[str] = "scorecam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.SCORE_SHIFT}
    )
    runs: ClassVar[str] = "1F + K F"

    variant: Literal["paper", "authors", "grad-cam", "torchcam"] = Field(
        "paper",
        description="paper: softmax, masks resized, then to [0, 1]; authors: their code, the score "
        "itself as weight; grad-cam, torchcam: masks as those libraries make them",
    )
    normalize: Literal["auto", "softmax", "relu", "none"] = Field(
        "auto", description="how scores become weights; auto: none for authors, else softmax"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        activations, images = capture.activations, capture.inputs
        order: MaskOrder = "paper" if self.variant == "authors" else self.variant
        masks = mask_builder(activations, tuple(images.shape[2:]), order)
        channels = activations.shape[1]
        scores = ask(capture.scores, images, channels, masked(images, masks))
        if self.variant == "authors":
            # Their code skips channels that are the same everywhere.
            flat = activations.flatten(2)
            scores = scores.where(flat.amax(2) > flat.amin(2), 0.0)
        elif self._how != "softmax":
            nothing = torch.zeros_like(images)
            scores = scores - ask(capture.scores, images, 1, lambda owner, _: nothing[owner])
        return normalized(scores, self._how)

    @property
    def _how(self) -> Normalize:
        if self.normalize != "auto":
            return self.normalize
        return "none" if self.variant == "authors" else "softmax"
