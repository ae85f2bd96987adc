"""Fake-CAM: everything but one cell, a control that fools faithfulness metrics."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class FakeCAM(MethodModel):
    """1 everywhere, 0 in the first cell.

    Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPRW
    2021, arXiv:2104.10252. A control: it scores well on Average Drop and explains nothing.
    """

    name: ClassVar[str] = "fakecam"
    needs: ClassVar[Need] = Need.ACTIVATIONS
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
        maps = torch.ones_like(capture.activations[:, 0])
        maps.flatten(1)[:, 0] = 0
        return maps
