"""LaFAM: the average activation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class LaFAM(MethodModel):
    """mean_k A_k.

    Karjauv and Albayrak, LaFAM: Unsupervised Feature Attribution with Label-free Activation Maps,
    2024, arXiv:2407.06059, eq. 1. The same map for every class.
    """

    name: ClassVar[str] = "lafam"
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
        return capture.activations.mean(1)
