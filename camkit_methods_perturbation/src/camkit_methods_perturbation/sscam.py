"""SS-CAM: Score-CAM averaged over noisy masks."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import mask_builder, weighted_sum
from camkit_methods_perturbation.rows import Build, ask, masked


class SSCAM(MethodModel):
    """sum_k w_k A_k with w = softmax_k(mean_i f(x * (H_k + noise_i))), noise of deviation `std`.

    Wang et al., SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization, 2020,
    arXiv:2006.14255, SS-CAM(1); SS-CAM(2), `variant="input"`, adds the noise to x * H_k instead.
    Every image and channel sees the same noise fields, drawn from `seed=`: channels are compared
    under equal conditions, and a map does not depend on its neighbours.
    """

    name: ClassVar[str] = "sscam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.CHANNEL_PERMUTATION, Claim.SCORE_SHIFT})
    runs: ClassVar[str] = "1F + 35 K F"

    variant: Literal["mask", "input"] = Field("mask", description="what the noise is added to")
    samples: int = Field(35, ge=1, description="number of noise fields")
    std: float = Field(2.0, ge=0, description="standard deviation; masks lie in [0, 1]")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        images, channels = capture.inputs, capture.activations.shape[1]
        scores = ask(capture.scores, images, channels * self.samples, self._build(capture))
        return scores.reshape(len(images), channels, self.samples).mean(2).softmax(1)

    def _build(self, capture: Capture) -> Build:
        images = capture.inputs
        size = tuple(images.shape[2:])
        masks = mask_builder(capture.activations, size)
        shape = size if self.variant == "mask" else tuple(images.shape[1:])
        # Single precision whatever the image has: one seed is one noise.
        drawn = torch.randn(
            (self.samples, *shape),
            generator=capture.generator,
            dtype=torch.float32,
            device=images.device,
        )
        noise = self.std * drawn.to(images.dtype)

        def noisy(owner: Tensor, change: Tensor) -> Tensor:
            return masks(owner, change // self.samples) + noise[change % self.samples]

        def clean(owner: Tensor, change: Tensor) -> Tensor:
            return masks(owner, change // self.samples)

        if self.variant == "mask":
            return masked(images, noisy)
        shown = masked(images, clean)
        return lambda owner, change: shown(owner, change) + noise[change % self.samples]
