"""IoU: the map, cut at a threshold, against the object's outline."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Evidence, Explanation, MetricModel
from camkit_metrics.parts import relevance, where_marked


class IoU(MetricModel):
    """max_t |{M+ >= t} and target| / |{M+ >= t} or target|, over all thresholds t > 0.

    The threshold of a heat map is a free choice that decides most comparisons (Choe et al.,
    Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020, arXiv:2001.07437),
    so by default every map has its best one. It is chosen with the truth in hand: an upper bound,
    fair between methods, no forecast of a segmentation. `threshold` cuts all maps at that share of
    their maximum instead.

    All thresholds are tried, not a list; pixels of equal value pass together. Positions where the
    map is zero belong to no cut. NaN for an empty map or an empty mask.
    """

    name: ClassVar[str] = "iou"

    threshold: float | None = Field(
        None, gt=0, le=1, description="share of the map's maximum; by default each map's best one"
    )

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1."""
        target = self.truth(explanation, evidence).target
        map_, inside = relevance(explanation), target.flatten(1)
        cut = self.threshold
        overlaps = _best(map_, inside) if cut is None else _at(cut, map_, inside)
        return where_marked(torch.where(map_.isnan().any(1), torch.nan, overlaps), target)


def _at(threshold: float, map_: Tensor, inside: Tensor) -> Tensor:
    cut = map_ >= threshold
    return (cut & inside).sum(1).to(map_.dtype) / (cut | inside).sum(1)


def _best(map_: Tensor, inside: Tensor) -> Tensor:
    """Best overlap `[N]`: positions join the cut from the strongest to the weakest."""
    values, order = map_.sort(dim=1, descending=True)
    hits = inside.gather(1, order).cumsum(1).to(map_.dtype)
    taken = torch.arange(1, map_.shape[1] + 1, dtype=map_.dtype, device=map_.device)
    overlaps = hits / (taken + inside.sum(1, keepdim=True) - hits)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    # Within a run of equal values only its end is a threshold; behind the last positive is none.
    return torch.where(values > following, overlaps, 0).amax(1)
