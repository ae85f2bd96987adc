"""Rank accuracy: are the strongest places on the object?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core import Evidence, Explanation, MetricModel
from camkit_metrics.parts import relevance, where_marked


class RankAccuracy(MetricModel):
    """|top-K positions and target| / K, where K is the number of pixels of the target.

    Relevance rank accuracy: Arras et al., CLEVR-XAI: A benchmark dataset for the ground truth
    evaluation of neural network explanations, Information Fusion 2022, arXiv:2003.07258.
    Unlike energy it does not care how strong the strongest places are.

    Where the K-th value is shared by several positions (the zeros of a sparse map, a plateau), the
    free places go to them by lot, and the value is the expectation over all such draws: memory
    order has no say. NaN for an empty map or an empty mask.
    """

    name: ClassVar[str] = "rankaccuracy"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1."""
        target = self.truth(explanation, evidence).target
        map_, inside = relevance(explanation), target.flatten(1)
        size = inside.sum(1, keepdim=True)
        last = map_.sort(dim=1, descending=True).values.gather(1, (size - 1).clamp_min(0))
        sure, tied = map_ > last, map_ == last
        free = (size - sure.sum(1, keepdim=True)).to(map_.dtype)
        drawn = free * (tied & inside).sum(1, keepdim=True) / tied.sum(1, keepdim=True)
        found = ((sure & inside).sum(1, keepdim=True) + drawn) / size
        return where_marked(torch.where(map_.isnan().any(1), torch.nan, found[:, 0]), target)
