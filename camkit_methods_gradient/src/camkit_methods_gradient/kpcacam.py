"""KPCA-CAM: the first kernel principal component of the positions."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_gradient.parts import align, centered


class KPCACAM(MethodModel):
    """First kernel principal component of the centered positions, scaled by its eigenvalue.

    Karmani et al., KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA,
    MMSP 2024, arXiv:2410.00267. With K' the doubly centered kernel matrix of the positions and
    (l, v) its leading eigenpair, the map is sqrt(l) v. The cost grows with the cube of the number
    of positions.
    """

    name: ClassVar[str] = "kpcacam"
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

    kernel: Literal["sigmoid", "rbf", "poly", "cosine", "linear"] = Field(
        "sigmoid", description="kernel function; poly has degree 3"
    )
    gamma: float | None = Field(
        None, gt=0, description="kernel scale; None means 1 / number of channels"
    )
    variant: Literal["aligned", "grad-cam"] = Field(
        "aligned",
        description="sign rule. aligned: follows sum_k A_k; grad-cam: that library's, the entry of "
        "largest size is positive",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        activations = capture.activations
        kernel = _doubly_centered(self._kernel_matrix(centered(activations)))
        values, vectors = torch.linalg.eigh(kernel)
        leading = vectors[..., -1]
        if self.variant == "grad-cam":
            peak = leading.abs().argmax(1, keepdim=True)
            leading = leading * leading.gather(1, peak).sign()
        flat = (leading * values[..., -1:].clamp_min(0).sqrt()).to(activations)
        projection = flat.reshape(len(activations), *activations.shape[2:])
        return projection if self.variant == "grad-cam" else align(projection, activations.sum(1))

    def _kernel_matrix(self, rows: Tensor) -> Tensor:
        """`[N, P, P]` of rows `[N, P, C]`."""
        gamma = 1 / rows.shape[2] if self.gamma is None else self.gamma
        if self.kernel == "rbf":
            return torch.exp(-gamma * torch.cdist(rows, rows).square())
        if self.kernel == "cosine":
            rows = torch.nn.functional.normalize(rows, dim=2)
        product = rows @ rows.transpose(1, 2)
        if self.kernel == "sigmoid":
            return torch.tanh(gamma * product + 1)
        return (gamma * product + 1) ** 3 if self.kernel == "poly" else product


def _doubly_centered(kernel: Tensor) -> Tensor:
    """The kernel matrix of centered features; zero where only rounding is left."""
    mean = kernel.mean(1, keepdim=True)
    rest = kernel - mean - mean.transpose(1, 2) + mean.mean(2, keepdim=True)
    noise = 64 * torch.finfo(kernel.dtype).eps * kernel.abs().amax((1, 2), keepdim=True)
    return torch.where(rest.abs().amax((1, 2), keepdim=True) <= noise, 0.0, rest)
