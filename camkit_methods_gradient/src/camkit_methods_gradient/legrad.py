"""LeGrad: how the attention of each block could raise the score of that block's own tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.blocks import blocks, on_grid


class LeGrad(MethodModel):
    """mean over blocks l of mean over heads and queries of relu(ds_l/dP_l).

    Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature
    Formation Sensitivity, ICCV 2025, arXiv:2404.03214. s_l is the score of block l's tokens behind
    the model's own last norm and classifier. The authors hand on the mean of all tokens, whatever
    the model reads.
    """

    name: ClassVar[str] = "legrad"
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
    runs: ClassVar[str] = "1F + 2B per block"

    tokens: Literal["mean", "own"] = Field(
        "mean",
        description="mean: the average token in every place, as in the authors' code; own: each "
        "token in its place, so that the model's own reading (class token, pooling) decides",
    )
    start: int = Field(0, description="first block; negative numbers count from the end")
    stop: int | None = Field(None, description="block to stop before; None goes to the last")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        change = _average if self.tokens == "mean" else _same
        found = [
            capture.exit_gradients(position, change).relu().mean((1, 2))
            for position, _ in blocks(capture, self.start, self.stop)
        ]
        return on_grid(capture, torch.stack(found).mean(0))


def _average(tokens: Tensor) -> Tensor:
    return tokens.mean(1, keepdim=True).expand_as(tokens)


def _same(tokens: Tensor) -> Tensor:
    return tokens
