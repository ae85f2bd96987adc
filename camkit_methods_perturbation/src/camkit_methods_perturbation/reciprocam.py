"""Recipro-CAM: each position is worth the score of the activations that are left alone there."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.rows import ask, painted, scaled, windows


class ReciproCAM(MethodModel):
    """y(A * 1_p) at position p: everything but one position of the layer is zero.

    Byun and Lee, Recipro-CAM: Fast gradient-free visual explanations for convolutional neural
    networks, 2022, arXiv:2209.14074. Where the score is certified affine in the activations this
    is HiResCAM plus a constant, and nothing runs again.
    """

    name: ClassVar[str] = "reciprocam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + S T"

    gaussian: bool = Field(
        False, description="keep the neighbors too, by a 3 x 3 Gaussian whose middle is 1/4"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return position_scores(capture, gaussian=self.gaussian)


def position_scores(capture: Capture, *, gaussian: bool) -> Tensor:
    """Score with the activations multiplied by a window around each position, `[N, *S]`."""
    activations = capture.activations
    size = activations.shape[2:]
    axes = [_around(length, gaussian=gaussian).to(activations) for length in size]
    gradient = capture.affine
    if gradient is not None:
        product = (gradient * activations).sum(1)
        rest = capture.score - product.flatten(1).sum(1)
        return painted(product, axes) + rest.reshape(-1, *(1,) * len(size))
    build = scaled(activations, lambda change: windows(axes, change)[:, None])
    return ask(capture.tail, activations, size.numel(), build).reshape(-1, *size)


def _around(length: int, *, gaussian: bool) -> Tensor:
    """`[length, length]`: row p is what is kept along one axis around p."""
    one = torch.eye(length, dtype=torch.float64)
    if not gaussian:
        return one
    side = torch.diag(torch.ones(length - 1, dtype=torch.float64), 1)
    return one / 2 + (side + side.T) / 4
