"""ViT-ReciproCAM: the class token and the neighborhood of one token are left alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.reciprocam import position_scores


class ViTReciproCAM(MethodModel):
    """y at position p with all tokens zero but the class token and a window around p.

    Byun and Lee, ViT-ReciproCAM: Gradient and Attention-Free Visual Explanations for Vision
    Transformer, 2023, arXiv:2310.02588. Meant for the first normalization of the last block
    (`blocks.-1.norm1`, `encoder.layers.-1.ln_1`). Tokens that are no positions (class, registers)
    stay as they are.
    """

    name: ClassVar[str] = "vitreciprocam"
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
        True, description="a 3 x 3 Gaussian whose middle is 1/4; else the one token alone"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return position_scores(capture, gaussian=self.gaussian)
