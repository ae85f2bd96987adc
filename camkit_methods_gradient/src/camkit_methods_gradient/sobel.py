"""Edges of the input, a control."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class SobelEdges(MethodModel):
    """Mean over axes of |Sobel derivative| of the image's channel mean, borders replicated.

    The kernel is [-1, 0, 1] along the axis and [1, 2, 1] along every other one. A control: a map
    that only traces edges says nothing about the model. Works in input space.
    """

    name: ClassVar[str] = "sobel"
    needs: ClassVar[Need] = Need.NONE
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.CHANNEL_RESCALING,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        gray = capture.inputs.mean(1)
        axes = range(1, gray.ndim)
        edges = [_sobel(gray, axis, axes).abs() for axis in axes]
        return torch.stack(edges).mean(0)


def _sobel(gray: Tensor, along: int, axes: range) -> Tensor:
    for axis in axes:
        before, after = _shifted(gray, axis)
        gray = after - before if axis == along else before + 2 * gray + after
    return gray


def _shifted(gray: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The neighbors on both sides along an axis; the border is its own neighbor."""
    length = gray.shape[axis]
    steps = torch.arange(length, device=gray.device)
    before = gray.index_select(axis, (steps - 1).clamp_min(0))
    return before, gray.index_select(axis, (steps + 1).clamp_max(length - 1))
