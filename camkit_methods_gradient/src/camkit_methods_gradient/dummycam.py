"""Dummy-CAM: the average activation above its median, a control."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class DummyCAM(MethodModel):
    """mean_k A_k minus the median over positions (the mean of the two middle values if even).

    A control from the class_activation_mapping package (no paper): what the layer shows without any
    weighting. The same map for every class.
    """

    name: ClassVar[str] = "dummycam"
    needs: ClassVar[Need] = Need.ACTIVATIONS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        mean = capture.activations.mean(1)
        ordered = mean.flatten(1).sort(dim=1).values
        half, last = ordered.shape[1] // 2, ordered.shape[1] - 1
        middle = (ordered[:, last - half] + ordered[:, half]) / 2
        middle = middle.reshape(-1, *(1,) * (mean.ndim - 1))
        above = mean - middle
        # What is left of a constant layer is rounding, not a pattern.
        noise = 64 * torch.finfo(mean.dtype).eps * middle.abs()
        return torch.where(above.abs() <= noise, 0.0, above)
