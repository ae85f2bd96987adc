"""Class activation mapping: the class weights of the last layer, mapped back."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need, TargetError
from camkit_methods_gradient.parts import weighted_sum


class CAM(MethodModel):
    """sum_k W[c, k] A_k, with W the linear layer behind global average pooling.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016,
    arXiv:1512.04150, eq. 2. No ReLU. Defined only where the scores are one linear layer of the
    averaged activations, which is checked; Grad-CAM is the generalization.
    """

    name: ClassVar[str] = "cam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.HEAD
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    runs: ClassVar[str] = "1F"

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`.

        Raises:
            TargetError: the target is not a class.
            CapabilityError: no such head behind this layer.
        """
        classes = capture.target.describe().classes
        if classes is None:
            raise TargetError(
                "cam maps the weights of a class, so it needs a class target; use gradcam for "
                f"{capture.target.describe().label!r}"
            )
        return weighted_sum(capture.head.weight[classes], capture.activations)
