"""Grad-ECLIP: gradient times value, weighted by how alike a query and the keys are."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from camkit_core import Attention, CapabilityError, Capture, Claim, MethodModel, Need
from camkit_methods_gradient.blocks import blocks


class GradECLIP(MethodModel):
    """sum over blocks of relu(sum_c dy/do_c * lambda_i * v_ic), lambda_i = minmax_i cos(q, k_i).

    Zhao et al., Gradient-based Visual Explanation for Transformer-based CLIP, ICML 2024,
    arXiv:2502.18816. q is the query and o the attention's output (heads side by side, before the
    projection) of the token that the score reads; where it reads several, their terms add up
    before the relu. The minimum and maximum are those of the patches. The paper shows the last
    block; `start` takes more.
    """

    name: ClassVar[str] = "gradeclip"
    needs: ClassVar[Need] = Need.ATTENTION | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )

    start: int = Field(-1, description="first block; negative numbers count from the end")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        patches = capture.grid.flatten()
        maps = [
            _block(block, capture.readers, patches).relu()
            for _, block in blocks(capture, self.start)
        ]
        total = torch.stack(maps).sum(0)
        return total.reshape(len(total), *capture.grid.shape)


def _block(block: Attention, readers: Tensor, patches: Tensor) -> Tensor:
    """One block's signed map, `[N, patches]`."""
    queries, keys = _joined(block, block.queries), _joined(block, block.keys)[:, patches]
    values, slope = _joined(block, block.values)[:, patches], _joined(block, block.output_gradients)
    alike = functional.normalize(queries[:, readers], dim=-1) @ functional.normalize(
        keys, dim=-1
    ).transpose(1, 2)
    low, high = alike.amin(-1, keepdim=True), alike.amax(-1, keepdim=True)
    loosened = torch.where(high > low, (alike - low) / (high - low), 1.0)
    weighed: Tensor = slope[:, readers] @ values.transpose(1, 2) * loosened
    return weighed.sum(1)


def _joined(block: Attention, tensor: Tensor | None) -> Tensor:
    """`[N, heads, T, D]` with heads side by side, `[N, T, heads * D]`."""
    if tensor is None:
        raise CapabilityError(
            f"{block.layer!r} writes its attention in a way that does not show queries, keys and "
            "values; use chefer or legrad, which only need the weights"
        )
    return tensor.transpose(1, 2).flatten(2)
