"""Attention rollout: attention weights multiplied through all blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.blocks import blocks, read


class Rollout(MethodModel):
    """A_L ... A_1 with A_l = rows of (P_l + I) / 2 that sum to 1, P_l averaged over the heads.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv:2005.00928,
    sec. 3. Of the product, the rows are shown whose tokens the score reads. The same for every
    class of a model that reads the same tokens for all.
    """

    name: ClassVar[str] = "rollout"
    needs: ClassVar[Need] = Need.ATTENTION
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F + 1B"

    heads: Literal["mean", "max", "min"] = Field(
        "mean", description="how heads are joined; the paper's is mean"
    )
    discard: float = Field(
        0.0, ge=0, lt=1, description="part of each block's weights, the smallest, set to 0"
    )
    start: int = Field(0, description="first block; negative numbers count from the end")
    stop: int | None = Field(None, description="block to stop before; None goes to the last")
    variant: Literal["paper", "vit-explain"] = Field(
        "paper",
        description="vit-explain: that repository's sums of rows, which divide columns instead, "
        "and its first token's weight for itself, which is never discarded",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        flow: Tensor | None = None
        for _, block in blocks(capture, self.start, self.stop):
            step = self._step(self._joined(block.weights))
            flow = step if flow is None else step @ flow
        assert flow is not None
        return read(capture, flow)

    def _joined(self, weights: Tensor) -> Tensor:
        joined = weights.mean(1) if self.heads == "mean" else getattr(weights, f"a{self.heads}")(1)
        flat = joined.flatten(1)
        smallest = flat.topk(int(flat.shape[1] * self.discard), largest=False).indices
        kept = flat.scatter(1, smallest, 0.0)
        if self.variant == "vit-explain":
            kept[:, 0] = flat[:, 0]
        return kept.reshape(joined.shape)

    def _step(self, joined: Tensor) -> Tensor:
        step = (joined + torch.eye(joined.shape[-1]).to(joined)) / 2
        if self.variant == "vit-explain":
            return step / step.sum(-1)[:, None]
        return step / step.sum(-1, keepdim=True)
