"""Grad-CAM whose channel weights ignore extreme gradients."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class Example(MethodModel):
    """sum_k w_k A_k, with w_k the mean of the middle part of channel k's gradients.

    The weight of Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391) is the mean over all
    positions, which a few huge gradients decide; this is the trimmed mean. keep=1 is Grad-CAM.
    """

    name: ClassVar[str] = "example"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.GAP_IS_CAM,
        }
    )
    keep: float = Field(0.5, ge=0.01, le=1, description="part of the positions that counts")

    def __call__(self, capture: Capture, /) -> Tensor:
        """Raw map `[N, *S]` of activations and gradients `[N, C, *S]`."""
        ranked = capture.gradients.flatten(2).sort(2).values
        cut = int(ranked.shape[2] * (1 - self.keep) / 2)
        weights = ranked[:, :, cut : ranked.shape[2] - cut].mean(2, keepdim=True)
        raw = (weights * capture.activations.flatten(2)).sum(1)
        return raw.reshape(len(raw), *capture.activations.shape[2:])
