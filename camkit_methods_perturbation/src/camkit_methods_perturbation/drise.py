"""D-RISE: random masks, each weighted by how well the box is detected through it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from camkit_core import BoundTarget, CapabilityError, Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.rise import RandomMasks
from camkit_methods_perturbation.rows import ask, masked


class DRISE(MethodModel):
    """1 / (n p) sum_i s(x * M_i) M_i over n random masks, s the similarity to the explained box.

    Petsiuk et al., Black-box Explanation of Object Detectors via Saliency Maps, CVPR 2021,
    arXiv:2006.03204, eq. 2-5: s = max_j IoU(L, L_j) cos(P, P_j) O_j over what the detector finds
    in the masked image, with boxes L, class probabilities P and objectness O. The detection target
    says what these are for its detector. Masks are those of `rise`. Works in input space, on any
    detector; 5000 masks as in the paper.
    """

    name: ClassVar[str] = "drise"
    needs: ClassVar[Need] = Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.LINEAR_IN_TARGET,
        }
    )
    runs: ClassVar[str] = "1F + 5000 F"
    target_views: ClassVar[tuple[str, ...]] = ("similarity",)

    masks: int = Field(5000, ge=1, description="number of random masks")
    grid: int = Field(16, ge=1, description="cells per side of a mask")
    p: float = Field(0.5, gt=0, lt=1, description="probability that a cell is kept")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution.

        Raises:
            CapabilityError: the target is no detection.
        """
        images, similarity = capture.inputs, self.similarity(capture)
        drawn = RandomMasks(images, self.masks, self.grid, self.p, capture.generator)
        build = masked(images, lambda _, change: drawn(change))
        found = ask(lambda rows: capture.scores(rows, target=similarity), images, self.masks, build)
        return drawn.weighted(found) / (self.masks * self.p)

    def similarity(self, capture: Capture) -> BoundTarget:
        """The view of the target that compares detections with the explained one.

        Raises:
            CapabilityError: it has none.
        """
        found: BoundTarget | None = getattr(capture.target, "similarity", None)
        if found is None:
            raise CapabilityError(
                f"drise explains detections, but {capture.target.describe().label!r} is none: name "
                "a box of a detector, e.g. target='box:0' (camkit[tasks]), or use rise, which "
                "takes any target"
            )
        return found
