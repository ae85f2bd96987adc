"""LIME: a linear model of the score in terms of which superpixels are shown."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import drawn_seed
from camkit_methods_perturbation.rows import ask
from camkit_methods_perturbation.superpixels import Fill, painted, segments, shown


class LIME(MethodModel):
    """Weights b of the ridge regression of f(z) on z in {0, 1}^superpixels, near z = 1.

    Ribeiro et al., "Why Should I Trust You?": Explaining the Predictions of Any Classifier, KDD
    2016, arXiv:1602.04938, eq. 1-2. Row i weighs exp(-d^2 / width^2), d the cosine distance of z_i
    from all ones; an intercept is fitted and not penalized. SLIC superpixels; works in input space.
    """

    name: ClassVar[str] = "lime"
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
    width: float = Field(0.25, gt=0, description="kernel width")
    ridge: float = Field(1.0, ge=0, description="penalty on the squared weights")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution."""
        images = capture.inputs
        labels = segments(images, self.superpixels, self.compactness)
        seed = drawn_seed(capture.generator)
        choices = [self._choices(int(image.max()) + 1, seed).to(images) for image in labels]
        build = shown(images, labels, choices, self.fill)
        scores = ask(capture.scores, images, self.samples, build)
        pairs = zip(choices, scores, strict=True)
        return painted([self._fit(z, y).to(scores) for z, y in pairs], labels)

    def _choices(self, count: int, seed: int) -> Tensor:
        """`[samples, count]` of 0 and 1; the first row shows everything."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(self.samples, count, generator=generator, dtype=torch.float64) < 0.5
        drawn[0] = True
        return drawn

    def _fit(self, shown: Tensor, score: Tensor) -> Tensor:
        """Ridge weights `[count]` of scores `[samples]`."""
        z, y = shown.cpu().double(), score.cpu().double()
        if not bool(torch.isfinite(y).all()):
            return torch.full((z.shape[1],), torch.nan, dtype=z.dtype)
        cosine = (z.sum(1) / z.shape[1]).sqrt()
        weight = torch.exp(-((1 - cosine) ** 2) / self.width**2)
        weight = weight / weight.sum() * len(z)
        z = z - (weight @ z) / weight.sum()
        y = y - (weight @ y) / weight.sum()
        normal = (z.T * weight) @ z + self.ridge * torch.eye(z.shape[1], dtype=z.dtype)
        goal = ((z.T * weight) @ y)[:, None]
        solution: Tensor = torch.linalg.lstsq(normal, goal, driver="gelsd").solution
        return solution[:, 0]
