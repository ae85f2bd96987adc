"""Opti-CAM: the mixture of channels through which the score is highest."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import resize, unit, weighted_sum
from camkit_methods_perturbation.rows import Changes, masked


class OptiCAM(MethodModel):
    """sum_k w_k A_k with w = softmax(u), u maximizing f(x * H), H the map resized, then to [0, 1].

    Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, 2023, arXiv:2301.07002,
    eq. 10-12. Adam from equal weights; the best u met is kept, so the score is never below its
    start.
    """

    name: ClassVar[str] = "opticam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
        }
    )
    runs: ClassVar[str] = "1F + 100 (F + B)"

    steps: int = Field(100, ge=1, description="number of evaluations of the score")
    rate: float = Field(0.1, gt=0, description="learning rate of Adam")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Channel weights `[N, K]`."""
        free = torch.zeros(capture.activations.shape[:2]).to(capture.activations)
        best, chosen, adam = torch.full_like(capture.score, -torch.inf), free, _Adam(free)
        for _ in range(self.steps):
            with torch.enable_grad():
                scores = self._scores(capture, free.requires_grad_())
                (gradient,) = torch.autograd.grad(scores.sum(), free)
            better = scores.detach() > best
            best = torch.where(better, scores.detach(), best)
            chosen = torch.where(better[:, None], free.detach(), chosen)
            free = free.detach() + self.rate * adam.step(gradient)
        return chosen.detach().softmax(1)

    @staticmethod
    def _scores(capture: Capture, free: Tensor) -> Tensor:
        """Scores `[N]`, with their graph."""
        images, activations = capture.inputs, capture.activations

        def mask(owner: Tensor, _: Tensor) -> Tensor:
            found = weighted_sum(free[owner].softmax(1), activations[owner])
            return unit(resize(found[:, None], tuple(images.shape[2:])))[:, 0]

        rows = Changes(len(images), 1, masked(images, mask), images.device)
        return capture.scores(rows, differentiable=True)


class _Adam:
    """Adam's steps for rows that do not know of one another.

    Its epsilon is a share of the row's largest gradient, so that steps depend neither on the scale
    of the score nor, in channels without influence, on rounding.
    """

    def __init__(self, like: Tensor) -> None:
        self._mean, self._square = torch.zeros_like(like), torch.zeros_like(like)
        self._count = 0

    def step(self, gradient: Tensor) -> Tensor:
        """Direction of about unit size, `[N, K]`."""
        self._count += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient**2
        mean = self._mean / (1 - 0.9**self._count)
        size = (self._square / (1 - 0.999**self._count)).sqrt()
        floor = 1e-4 * size.amax(1, keepdim=True) + torch.finfo(size.dtype).tiny
        return mean / (size + floor)
