"""Random channel weights, a control."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import weighted_sum


class RandomCAM(MethodModel):
    """sum_k w_k A_k with w_k drawn uniformly from [-1, 1], seeded by `seed=`.

    A control: any method worth its cost must beat it. All images of a call have the same weights,
    so that a map does not depend on its neighbours in the batch.
    """

    name: ClassVar[str] = "random"
    needs: ClassVar[Need] = Need.ACTIVATIONS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    class_discriminative: ClassVar[bool] = False
    runs: ClassVar[str] = "1F"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        weights = torch.rand(
            activations.shape[1],
            generator=capture.generator,
            dtype=torch.float32,  # the same numbers at every precision
            device=activations.device,
        ).to(activations)
        return weighted_sum((2 * weights - 1).expand(activations.shape[:2]), activations)
