"""Kernel SHAP: Shapley values of superpixels by weighted regression."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import drawn_seed
from camkit_methods_perturbation.rows import ask
from camkit_methods_perturbation.superpixels import Fill, filled, painted, segments, shown


class KernelSHAP(MethodModel):
    """b minimizing sum_z p(z) (f(z) - f(0) - z b)^2 with sum b = f(1) - f(0), p Shapley's kernel.

    Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
    arXiv:1705.07874, theorem 2: p(z) = (M - 1) / (C(M, |z|) |z| (M - |z|)). If all 2^M - 2 sets fit
    into `samples` they are enumerated and b are the exact Shapley values; else sets are drawn from
    p, each with its complement. SLIC superpixels; works in input space.
    """

    name: ClassVar[str] = "kernelshap"
    needs: ClassVar[Need] = Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + 1000 F"

    samples: int = Field(1000, ge=2, description="number of perturbed images")
    superpixels: int = Field(50, ge=1, description="about how many superpixels SLIC makes")
    compactness: float = Field(10.0, gt=0, description="of superpixels, as in scikit-image's slic")
    fill: Fill = Field(
        "zero",
        description="what a hidden superpixel shows: 0 (gray after the usual normalization), its "
        "own mean (which hides nothing of a flat object), or a blur",
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution."""
        images = capture.inputs
        labels = segments(images, self.superpixels, self.compactness)
        seed = drawn_seed(capture.generator)
        drawn = [self._sets(int(image.max()) + 1, seed) for image in labels]
        choices = [sets.to(images) for sets, _ in drawn]
        each = max(len(sets) for sets in choices)
        build = shown(images, labels, [_padded(sets, each) for sets in choices], self.fill)
        scores = ask(capture.scores, images, each, build)
        for image, (sets, _) in enumerate(drawn):
            _check_rank(capture, sets, image)
        hidden = filled(images, labels, self.fill)
        base = ask(capture.scores, images, 1, lambda owner, _: hidden[owner])[:, 0]
        values = [
            _shapley(sets, weight, score[: len(sets)], whole, zero).to(scores)
            for (sets, weight), score, whole, zero in zip(
                drawn, scores, capture.score, base, strict=True
            )
        ]
        return painted(values, labels)

    def _sets(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Sets `[rows, count]` of 0 and 1, and the weight of each."""
        if count <= 30 and 2**count - 2 <= self.samples:
            numbers = torch.arange(1, 2**count - 1)
            sets = (numbers[:, None] & 2 ** torch.arange(count)) > 0
            size = sets.sum(1).double()
            ways = torch.lgamma(torch.tensor(count + 1.0, dtype=torch.float64))
            ways = ways - torch.lgamma(size + 1) - torch.lgamma(count - size + 1)
            return sets, (count - 1) / (ways.exp() * size * (count - size))
        generator = torch.Generator().manual_seed(seed)
        size = torch.arange(1, count, dtype=torch.float64)
        pairs = -(-self.samples // 2)
        sizes = 1 + torch.multinomial(
            1 / (size * (count - size)), pairs, replacement=True, generator=generator
        )
        order = torch.rand(pairs, count, generator=generator).argsort(1).argsort(1)
        sets = order < sizes[:, None]
        sets = torch.stack([sets, ~sets], 1).flatten(0, 1)
        return sets, torch.ones(len(sets), dtype=torch.float64)


def _padded(sets: Tensor, rows: int) -> Tensor:
    """As many rows as the image with most; the scores of the added ones are not used."""
    return torch.cat([sets, sets.new_ones(rows - len(sets), sets.shape[1])])


def _check_rank(capture: Capture, sets: Tensor, image: int) -> None:
    """Say so where the drawn sets do not tell all superpixels apart."""
    design = (sets[:, :-1].double() - sets[:, -1:].double()).cpu()
    if design.numel() and int(torch.linalg.matrix_rank(design)) < design.shape[1]:
        capture.report(
            "underdetermined",
            f"{len(sets)} perturbed images cannot tell {sets.shape[1]} superpixels apart, so some "
            "share their values by chance; raise samples or lower superpixels",
            (image,),
        )


def _shapley(sets: Tensor, weight: Tensor, score: Tensor, whole: Tensor, zero: Tensor) -> Tensor:
    """Regression with the sum of the weights fixed: the last one is eliminated."""
    z, y = sets.double(), score.cpu().double() - zero.cpu().double()
    total = (whole - zero).cpu().double()
    if z.shape[1] == 1:
        return total[None]
    if not bool(torch.isfinite(y).all() & torch.isfinite(total)):
        return torch.full((z.shape[1],), torch.nan, dtype=z.dtype)
    root = weight.sqrt()
    design = (z[:, :-1] - z[:, -1:]) * root[:, None]
    goal = (y - z[:, -1] * total) * root
    rest: Tensor = torch.linalg.lstsq(design, goal[:, None], driver="gelsd").solution[:, 0]
    return torch.cat([rest, (total - rest.sum())[None]])
