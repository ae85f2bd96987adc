"""Several classes at once: the labels of a multi-label model, or a group of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core import BoundTarget, Runner, TargetError, TargetInfo, choose_classes, class_scores
from camkit_tasks.targets.labels import class_label, described
from camkit_tasks.targets.scores import at_least_float


@dataclass(frozen=True)
class Labels:
    """`sum_c y_c` over a set of classes.

    Attributes:
        class_indices: the set, for all images; None for the classes each image is said to have,
            those with a positive logit on the clean output.
    """

    class_indices: tuple[int, ...] | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the set of every image.

        Raises:
            TargetError: an empty set, a class given twice or out of range.
        """
        scores = class_scores(output).detach()
        if self.class_indices is None:
            return BoundLabels(_said(scores))
        if not self.class_indices or len(set(self.class_indices)) < len(self.class_indices):
            raise TargetError(
                f"classes {list(self.class_indices)}: give one or more different classes to add up"
            )
        members = torch.zeros_like(scores, dtype=torch.bool)
        for index in self.class_indices:
            members.scatter_(1, choose_classes(scores, index)[:, None], value=True)
        return BoundLabels(members)


@dataclass(frozen=True)
class BoundLabels:
    """A fixed set of classes per image."""

    members: Tensor  # [N, K] bool

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Sums `[M]`."""
        scores = at_least_float(class_scores(output))
        members = self.members.to(scores.device)[owner.to(scores.device)]
        # Not a product: a logit of minus infinity outside of the set must not matter.
        return scores.where(members, 0).sum(1)

    def describe(self) -> TargetInfo:
        """`class 3 + class 7`."""
        sets = [row.nonzero()[:, 0].tolist() for row in self.members]
        return described("labels", [" + ".join(map(class_label, one)) for one in sets])


def _said(scores: Tensor) -> Tensor:
    members = scores > 0
    none = (~members.any(1)).nonzero()[:, 0].tolist()
    if none:
        raise TargetError(
            f"image {none[0]}: no class has a positive logit, so there is no set of labels to add "
            "up; name the classes"
        )
    return members
