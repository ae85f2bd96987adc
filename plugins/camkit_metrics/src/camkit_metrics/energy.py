"""Energy: how much of the map lies on the object."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Evidence, Explanation, MetricModel
from camkit_metrics.parts import mass, relevance, where_marked


class Energy(MetricModel):
    """sum_{p in target} M+(p) / sum_p M+(p), with M+ the positive part of the display map.

    The energy-based pointing game of Wang et al., Score-CAM, CVPR Workshops 2020,
    arXiv:1910.01279; relevance mass accuracy in Arras et al., CLEVR-XAI, Information Fusion 2022,
    arXiv:2003.07258.

    1 is a map that stays on the object; a uniform map scores the object's share of the picture, so
    compare with the controls, not with other data sets. NaN for an empty map or an empty mask.
    """

    name: ClassVar[str] = "energy"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1."""
        target = self.truth(explanation, evidence).target
        map_ = relevance(explanation)
        return where_marked(mass(map_, target) / map_.sum(1), target)
