"""Generic attention relevance: gradient times attention, handed through all blocks."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.blocks import blocks, read


class Chefer(MethodModel):
    """R = I; R += mean_heads relu(dy/dP * P) R block by block; rows of R - I that are read.

    Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers, ICCV 2021, arXiv:2103.15679, eq. 5 and 6 (self-attention). The
    row is the class token's; of models that average patches, the average over their rows, where
    the I of the start is a constant that says nothing.
    """

    name: ClassVar[str] = "chefer"
    needs: ClassVar[Need] = Need.ATTENTION | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SHIFT,
        }
    )

    start: int = Field(0, description="first block; negative numbers count from the end")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        own = torch.eye(len(capture.readers)).to(capture.inputs)
        relevance = own
        for _, block in blocks(capture, self.start):
            assert block.gradients is not None
            step = (block.gradients * block.weights).relu().mean(1)
            relevance = relevance + step.to(own) @ relevance
        return read(capture, relevance - own)
