"""AttCAT: gradient times token, weighted by the attention that the token gets."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import CapabilityError, Capture, Claim, MethodModel, Need
from camkit_methods_gradient.blocks import blocks, on_grid


class AttCAT(MethodModel):
    """sum over blocks l of a_l,i * sum_c (dy/dh_l * h_l)_ic, a_l,i the attention token i gets.

    Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens, NeurIPS
    2022. h_l are the tokens that block l returns, a_l its weights averaged over heads and queries.
    The map is signed: tokens that speak against the class are negative.
    """

    name: ClassVar[str] = "attcat"
    needs: ClassVar[Need] = Need.ATTENTION | Need.GRADIENTS
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

    queries: Literal["all", "read"] = Field(
        "all", description="whose attention counts: that of all tokens, or of those the score reads"
    )
    start: int = Field(0, description="first block; negative numbers count from the end")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        rows = capture.readers if self.queries == "read" else torch.ones_like(capture.readers)
        found = []
        for _, block in blocks(capture, self.start):
            if block.tokens is None or block.token_gradients is None:
                raise CapabilityError(
                    f"the tokens behind {block.layer!r}, which attcat weighs, are not known: no "
                    "module around it returns them, or the model overwrites them in place"
                )
            impact = (block.token_gradients * block.tokens).sum(-1)
            found.append(block.weights[:, :, rows].mean((1, 2)) * impact)
        return on_grid(capture, torch.stack(found).sum(0))
