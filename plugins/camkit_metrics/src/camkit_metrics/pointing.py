"""Pointing game: is the strongest place on the object?"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Evidence, Explanation, MetricModel
from camkit_metrics.parts import relevance, where_marked


class Pointing(MetricModel):
    """Share of the map's maxima that lie on the object, or at most `tolerance` pixels off it.

    Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, arXiv:1608.00507:
    a hit is 1, a miss 0, with a tolerance of 15 pixels on photos of usual size. The default here
    is none, for which a random map hits as often as the object covers the picture.

    Several equal maxima (a saturated or a coarse map) are averaged, where picking the first one
    would favor the top left corner. Distance is Euclidean, between pixel centers. NaN for an
    empty map or an empty mask.
    """

    name: ClassVar[str] = "pointing"

    tolerance: int = Field(0, ge=0, description="pixels by which the maximum may miss the object")

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1."""
        target = self.truth(explanation, evidence).target
        map_ = relevance(explanation)
        best = (map_ == 1).to(map_.dtype)
        hits = best * _near(target, self.tolerance).flatten(1)
        # An undefined map has no maximum, and 0 / 0 says so.
        return where_marked(hits.sum(1) / best.sum(1), target)


def _near(mask: Tensor, reach: int) -> Tensor:
    """Positions at most `reach` pixels from a mask `[N, *S]`."""
    squared = torch.where(mask, 0.0, torch.inf)
    for axis in range(1, mask.ndim):
        squared = _nearest(squared, axis, reach)
    return squared <= reach**2


def _nearest(squared: Tensor, axis: int, reach: int) -> Tensor:
    """min_j squared[j] + (i - j)^2 along one axis, for |i - j| <= reach."""
    length = squared.shape[axis]
    best = squared.clone()
    for step in range(1, min(reach, length - 1) + 1):
        for here, there in ((0, step), (step, 0)):
            view = best.narrow(axis, here, length - step)
            other = squared.narrow(axis, there, length - step) + step**2
            view.copy_(torch.minimum(view, other))
    return best
