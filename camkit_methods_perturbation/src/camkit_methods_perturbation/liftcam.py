"""LIFT-CAM: each channel is worth its DeepLIFT contribution to the score."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import CapabilityError, Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import positions, weighted_sum


class LiftCAM(MethodModel):
    """sum_k w_k A_k with w_k = sum_S of the DeepLIFT contribution of channel k, against zero.

    Jung and Oh, Towards Better Explanations of Class Activation Mapping, ICCV 2021,
    arXiv:2102.05228, eq. 8-10. Behind an affine score (average pooling and a linear layer, which
    the paper studies) DeepLIFT's multipliers are the gradient: w_k = <G_k, A_k>, the exact Shapley
    value.
    """

    name: ClassVar[str] = "liftcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "2F + 1B"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`.

        Raises:
            CapabilityError: the score is not affine in the layer's activations.
        """
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel contributions `[N, K]`; they add up to y(A) - y(0)."""
        gradient = capture.affine
        if gradient is None:
            raise CapabilityError(
                f"the score is not affine in layer {capture.layer!r}, so its DeepLIFT multipliers "
                "are not the gradient; choose the layer before pooling and the linear head, or "
                "channelshapley, which estimates the same values on any tail"
            )
        return (gradient * capture.activations).sum(positions(gradient))
