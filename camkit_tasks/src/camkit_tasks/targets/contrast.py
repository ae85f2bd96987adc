"""What tells a class from others: Finer-CAM (arXiv 2501.11309), a target for any method.

The published map is a base method's for `y_c - gamma * mean_d y_d`, where d are the references:
the classes whose scores are nearest to that of c, or those given. grad-cam 1.5.7 weights the
references by their probabilities instead, which take part in the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from camkit_core import BoundTarget, Runner, TargetError, TargetInfo, class_scores
from camkit_tasks.targets.labels import class_label, described
from camkit_tasks.targets.scores import OfClass, at_least_float, pick

Variant = Literal["paper", "grad-cam"]

STRENGTH: dict[Variant, float] = {"paper": 0.6, "grad-cam": 1.0}
"""Published strengths: gamma of the paper, alpha of grad-cam."""

_TINY = 1e-9
"""Added to the sum of the weights by grad-cam."""


@dataclass(frozen=True)
class Finer(OfClass):
    """The score of a class against similar ones.

    `paper`: `y_c - strength * mean_d y_d`. `grad-cam`: `sum_d p_d (y_c - strength * y_d)` divided
    by `sum_d p_d + 1e-9`, with `p = softmax(y)`.

    Attributes:
        class_index: see `OfClass`.
        against: reference classes, the same for every image; None takes the `nearest`.
        nearest: how many references are chosen on the clean output by `|y_d - y_c|`.
        variant: weighting of the references.
        strength: gamma or alpha; None for the published one (0.6, grad-cam 1).

    Source:
        Zhang et al., Finer-CAM, CVPR 2025, eq. 5.
    """

    against: tuple[int, ...] | None = None
    nearest: int = 3
    variant: Variant = "paper"
    strength: float | None = None

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            TargetError: an unknown variant, no references, or a strength that is no number.
        """
        if self.variant not in get_args(Variant):
            raise TargetError(f"Finer(variant={self.variant!r}): choose 'paper' or 'grad-cam'")
        if self.nearest < 1 or self.against == ():
            raise TargetError("Finer needs at least one reference class to compare with")
        if self.strength is not None and not self.strength - self.strength == 0:
            raise TargetError(f"Finer(strength={self.strength!r}) must be a finite number")

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix class and references of every image.

        Raises:
            TargetError: a class out of range, or one that is compared with itself.
        """
        scores, classes = self.classes(output)
        references = self._references(scores.detach(), classes)
        strength = STRENGTH[self.variant] if self.strength is None else self.strength
        return BoundFiner(classes, references, strength, self.variant)

    def _references(self, scores: Tensor, classes: Tensor) -> Tensor:
        images, count = scores.shape
        if self.against is None:
            distance = (scores - pick(scores, classes)[:, None]).abs()
            distance.scatter_(1, classes[:, None], torch.inf)
            nearest = distance.argsort(dim=1, stable=True)
            return nearest[:, : min(self.nearest, count - 1)]
        for index in self.against:
            if not 0 <= index < count:
                raise TargetError(
                    f"class {index} is out of range: the model has classes 0..{count - 1}"
                )
        given = torch.tensor(self.against, device=scores.device).expand(images, -1)
        itself = (given == classes[:, None]).any(1)
        if bool(itself.any()):
            row = int(itself.nonzero()[0])
            raise TargetError(
                f"image {row}: class {int(classes[row])} is to be compared with itself; leave it "
                "out of the references"
            )
        return given


@dataclass(frozen=True)
class BoundFiner:
    """The contrast of fixed classes."""

    chosen: Tensor  # [N]
    references: Tensor  # [N, D]
    strength: float
    variant: Variant

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        scores = at_least_float(class_scores(output))
        owner = owner.to(scores.device)
        ours = pick(scores, self.chosen.to(scores.device)[owner])
        references = self.references.to(scores.device)[owner]
        theirs = scores.gather(1, references)
        if self.variant == "paper":
            return ours - self.strength * theirs.mean(1)
        weights = scores.softmax(1).gather(1, references)
        contrast = ours[:, None] - self.strength * theirs
        return (weights * contrast).sum(1) / (weights.sum(1) + _TINY)

    def describe(self) -> TargetInfo:
        """`class 281 vs class 282, class 285`."""
        pairs = zip(self.chosen.tolist(), self.references.tolist(), strict=True)
        labels = [f"{class_label(ours)} vs {_listed(theirs)}" for ours, theirs in pairs]
        return described("contrast", labels, self.chosen)


def _listed(classes: Sequence[int]) -> str:
    return ", ".join(map(class_label, classes))
