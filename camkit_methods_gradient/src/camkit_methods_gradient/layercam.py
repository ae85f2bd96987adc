"""LayerCAM: positive gradients, position by position; meant for early layers too."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need


class LayerCAM(MethodModel):
    """sum_k relu(G_k) * A_k.

    Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE TIP
    2021, doi:10.1109/TIP.2021.3089943, eq. 5-6.
    """

    name: ClassVar[str] = "layercam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LOCALITY,
        }
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return (capture.gradients.relu() * capture.activations).sum(1)
