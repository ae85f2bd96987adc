"""Two methods, for tests that may not import a package of methods."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, MethodModel, Need, TensorRows


class Slope(MethodModel):
    """`sum_k G_k A_k`."""

    name: ClassVar[str] = "slope"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return (capture.gradients * capture.activations).sum(1)


class Drops(MethodModel):
    """`sum_k (y - y(A_k = 0)) A_k`."""

    name: ClassVar[str] = "drops"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        images, channels = activations.shape[:2]
        owner = torch.arange(images).repeat_interleave(channels)
        rows = activations[owner].clone()
        rows[torch.arange(len(rows)), torch.arange(channels).repeat(images)] = 0
        left = capture.tail(TensorRows(rows, owner)).reshape(images, channels)
        weights = (capture.score[:, None] - left).reshape(images, channels, 1, 1)
        return (weights * activations).sum(1)
