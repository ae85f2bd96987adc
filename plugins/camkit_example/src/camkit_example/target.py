"""Log-odds: the class against all the others together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core import BoundTarget, Runner, TargetError, TargetInfo, choose_classes, class_scores


@dataclass(frozen=True)
class LogOdds:
    """log(p_c / (1 - p_c)) = y_c - log sum_{j != c} exp(y_j), with y the logits.

    Attributes:
        class_index: a class, or None for the one the model answers.
    """

    class_index: int | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Settle the class of every image on the clean output: it must not change later.

        Raises:
            TargetError: there is no other class.
        """
        scores = class_scores(output)
        if scores.shape[1] < 2:
            raise TargetError(
                f"the model returns {list(scores.shape)}: log-odds compare a class with the "
                "others, and there is one output only; pass target=0 to explain it"
            )
        return BoundLogOdds(choose_classes(scores, self.class_index))


@dataclass(frozen=True)
class BoundLogOdds:
    """Log-odds of one fixed class per image."""

    classes: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]` of M rows; row m is a version of image `owner[m]`."""
        scores = class_scores(output)
        ours = self.classes.to(scores.device)[owner.to(scores.device), None]
        others = scores.scatter(1, ours, -torch.inf).logsumexp(1)
        return scores.gather(1, ours)[:, 0] - others

    def describe(self) -> TargetInfo:
        """For people and for files."""
        labels = tuple(f"odds of class {index}" for index in self.classes.tolist())
        label = ", ".join(dict.fromkeys(labels))
        return TargetInfo(kind="log-odds", label=label, classes=self.classes, labels=labels)
