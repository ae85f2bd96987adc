"""Contrast: the explained object against the others in the picture."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from camkit_core import CapabilityError, Evidence, Explanation, MetricModel
from camkit_metrics.parts import mass, relevance, where_marked


class Contrast(MetricModel):
    """E(target) / (E(target) + E(rivals)), with E(mask) = sum_{p in mask} M+(p).

    camkit's own: it asks whether a map knows *which* of two objects was asked for, and leaves out
    what energy already punishes, relevance on the background.

    Explain every picture once for each of its objects. Then a method that is blind to the class
    gives both the same map, its two values add up to 1, and its mean is exactly 0.5, whatever the
    sizes of the objects. Judging only the larger (or the first) object has no such fixed point;
    `per="pixel"` divides E by the mask's size and is the fairer choice there.

    A pixel in both masks counts for the target. NaN where the map is empty on both, and where a
    mask is.
    """

    name: ClassVar[str] = "contrast"

    per: Literal["object", "pixel"] = Field(
        "object", description="compare the relevance in each mask, or its mean per pixel"
    )

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`[N]`, 0 to 1; 0.5 is blind to the class.

        Raises:
            CapabilityError: no truth, or one without rivals.
        """
        truth = self.truth(explanation, evidence)
        if truth.rivals is None:
            raise CapabilityError(
                f"metric {self.name} weighs the target against other objects, but the truth has "
                "none: pass Truth(target=..., rivals=...) with pictures of several objects, or "
                "use energy"
            )
        map_, rivals = relevance(explanation), truth.rivals & ~truth.target
        ours, theirs = self._weight(map_, truth.target), self._weight(map_, rivals)
        return where_marked(ours / (ours + theirs), truth.target, rivals)

    def _weight(self, map_: Tensor, mask: Tensor) -> Tensor:
        found = mass(map_, mask)
        return found / mask.flatten(1).sum(1) if self.per == "pixel" else found
