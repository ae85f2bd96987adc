"""GridPG: a mosaic of pictures, and the share of relevance in the right one."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import CapabilityError, Evidence, Explanation, MetricModel
from camkit_metrics.parts import mass, relevance, where_marked


class GridPG(MetricModel):
    """sum_{p in cell} M+(p) / sum_p M+(p) on a mosaic of pictures of different classes.

    Boehle, Fritz and Schiele, Convolutional Dynamic Alignment Networks for Interpretable
    Classifications, CVPR 2021, arXiv:2104.00032; named GridPG in Rao, Boehle and
    Schiele, Towards Better Understanding Attribution Methods, CVPR 2022, arXiv:2205.10435.

    The cell is the picture of the explained class, background included, so the metric asks only
    for the right picture. Chance is one over the number of cells. NaN for an empty map.
    """

    name: ClassVar[str] = "gridpg"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1.

        Raises:
            CapabilityError: no truth, or one without cells.
        """
        cell = self.truth(explanation, evidence).cell
        if cell is None:
            raise CapabilityError(
                f"metric {self.name} needs mosaics of several pictures, but the truth names no "
                "cell: pass Truth(target=..., cell=...), or use energy for single pictures"
            )
        map_ = relevance(explanation)
        return where_marked(mass(map_, cell) / map_.sum(1), cell)
