"""LIFT-CAM: each channel is worth its DeepLIFT contribution to the score."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import CapabilityError, Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import positions, weighted_sum


class LiftCAM(MethodModel):
    """sum_k w_k A_k with w_k = sum_S M_k A_k, where M are DeepLIFT's multipliers against zero.

    Jung and Oh, Towards Better Explanations of Class Activation Mapping, ICCV 2021,
    arXiv:2102.05228, eq. 8-10; multipliers by the Rescale rule of Shrikumar et al., ICML 2017,
    arXiv:1704.02685, section 3.5.2. The weights add up to y(A) - y(0). Behind pooling and a linear
    layer, and wherever else the score is affine in A, M is the gradient and w_k the exact Shapley
    value of the channel. Softmax, attention, layer norm, gates (squeeze and excitation) and choices
    by value behind the layer have no such rule and are refused: take `channelshapley` there.
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
    runs: ClassVar[str] = "1F + 2T + 1B"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`.

        Raises:
            CapabilityError: something behind the layer has no rule; the message says what.
        """
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel contributions `[N, K]`; they add up to y(A) - y(0)."""
        A = capture.activations
        try:
            M = capture.multipliers(torch.zeros_like(A))
        except CapabilityError as error:
            raise CapabilityError(
                f"{error}, or take channelshapley, which estimates the same values on any model"
            ) from error
        return (M * A).sum(positions(A))
