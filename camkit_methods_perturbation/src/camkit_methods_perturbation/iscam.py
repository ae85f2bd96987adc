"""IS-CAM: Score-CAM integrated from a dark to the masked image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import MaskOrder, mask_builder, spread, weighted_sum
from camkit_methods_perturbation.rows import ask, masked


class ISCAM(MethodModel):
    """sum_k w_k A_k with w = softmax_k(1/n sum_{i=1..n} f(i/n x * H_k)).

    Naidu et al., IS-CAM: Integrated Score-CAM for axiomatic-based explanations, 2020,
    arXiv:2010.03023.
    """

    name: ClassVar[str] = "iscam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.SCORE_SHIFT}
    )
    runs: ClassVar[str] = "1F + 10 K F"

    steps: int = Field(10, ge=1, description="number of steps n")
    variant: Literal["paper", "torchcam"] = Field(
        "paper",
        description="paper: factors i/n; torchcam: that library adds them up, so that the last "
        "of 10 brightens the image 5.5 times, and makes its own masks",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        activations, images = capture.activations, capture.inputs
        order: MaskOrder = "torchcam" if self.variant == "torchcam" else "paper"
        masks = mask_builder(activations, tuple(images.shape[2:]), order)
        factors = torch.arange(1, self.steps + 1, dtype=images.dtype) / self.steps
        if self.variant == "torchcam":
            factors = factors.cumsum(0)
        factors = factors.to(images.device)

        def dimmed(owner: Tensor, change: Tensor) -> Tensor:
            mask = masks(owner, change // self.steps)
            return mask * spread(factors[change % self.steps, None], mask[:, None])[:, 0]

        channels = activations.shape[1]
        scores = ask(capture.scores, images, channels * self.steps, masked(images, dimmed))
        return scores.reshape(len(images), channels, self.steps).mean(2).softmax(1)
