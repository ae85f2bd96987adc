"""Occlusion: what the score loses when a window of the image is covered."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.rows import ask, masked, painted, windows


class Occlusion(MethodModel):
    """At each pixel, the mean of y - y(window = fill) over the windows that cover it.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014,
    arXiv:1311.2901, section 4.2; drops instead of scores, so that important places are high.
    """

    name: ClassVar[str] = "occlusion"
    needs: ClassVar[Need] = Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + 225 F"

    window: int | None = Field(
        None, ge=1, description="side of the window in pixels; None: an eighth of each side"
    )
    stride: int | None = Field(
        None, ge=1, description="pixels between windows; None: half a window"
    )
    fill: float = Field(
        0.0, description="value of covered pixels, after the model's own normalization"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution."""
        images = capture.inputs
        axes = [self._along(length).to(images) for length in images.shape[2:]]
        counts = [len(axis) for axis in axes]
        fill = torch.full_like(images, self.fill)
        build = masked(images, lambda _, change: 1 - windows(axes, change), fill)
        drops = capture.score[:, None] - ask(capture.scores, images, math.prod(counts), build)
        covered = painted(torch.ones_like(drops[:1]).reshape(1, *counts), axes)
        return painted(drops.reshape(-1, *counts), axes) / covered

    def _along(self, length: int) -> Tensor:
        """Which pixels each window covers along one axis; the last is cut off at the border."""
        window = min(self.window or max(length // 8, 1), length)
        stride = min(self.stride or max(window // 2, 1), window)
        count = -(-(length - window) // stride) + 1
        offset = torch.arange(length) - stride * torch.arange(count)[:, None]
        return ((offset >= 0) & (offset < window)).double()
