"""Ablation-CAM: each channel is worth what the score loses without it."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import positions, weighted_sum
from camkit_methods_perturbation.rows import ask, replaced


class AblationCAM(MethodModel):
    """sum_k w_k A_k with w_k = y - y(A_k = 0).

    Desai and Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network via
    Gradient-free Localization, WACV 2020, eq. 3 without its division by y, which turns the map
    around where y < 0. Where the score is certified affine in the activations, w_k = <G_k, A_k>
    and nothing runs again.
    """

    name: ClassVar[str] = "ablationcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + K T"

    variant: Literal["drop", "paper", "grad-cam"] = Field(
        "drop",
        description="drop: y - y_k; paper: (y - y_k) / y; grad-cam: as paper, but channels of "
        "layers with negative values are set to their minimum - 1e7 as that library does",
    )
    ratio: float = Field(
        1.0, gt=0, le=1, description="share of channels to ablate, the strongest; others weigh 0"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        drops = self._drops(capture, self._values(capture.activations))
        return drops if self.variant == "drop" else drops / capture.score[:, None]

    def _values(self, activations: Tensor) -> Tensor:
        """What an ablated channel becomes, `[N]`."""
        low = activations.flatten(1).amin(1)
        return torch.where(low == 0, 0.0, low - 1e7) if self.variant == "grad-cam" else low * 0

    def _drops(self, capture: Capture, values: Tensor) -> Tensor:
        activations = capture.activations
        channels = self._channels(activations)
        gradient = capture.affine
        if gradient is not None:
            removed = activations - values.reshape(-1, *(1,) * (activations.ndim - 1))
            chosen = (gradient * removed).sum(positions(activations)).gather(1, channels)
        else:
            build = replaced(activations, channels, values)
            left = ask(capture.tail, activations, channels.shape[1], build)
            chosen = capture.score[:, None] - left
        drops = torch.zeros(activations.shape[:2], dtype=chosen.dtype, device=chosen.device)
        return drops.scatter(1, channels, chosen)

    def _channels(self, activations: Tensor) -> Tensor:
        """The channels to ablate, each once, `[N, R]`: those of largest sum of squares."""
        if self.ratio == 1:
            images, channels = activations.shape[:2]
            return torch.arange(channels, device=activations.device).expand(images, channels)
        energy = activations.square().sum(positions(activations))
        keep = math.ceil(self.ratio * energy.shape[1])
        return energy.topk(keep, 1).indices.sort(1).values
