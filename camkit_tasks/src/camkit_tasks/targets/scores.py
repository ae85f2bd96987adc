"""Functions of the class scores: probability, log-probability, margin, ReST.

Scores `y` are the logits `[M, K]` found in the model's output; the class `c` of every image, and
the rival of the margin, are fixed on the clean output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core import (
    BoundTarget,
    Runner,
    TargetError,
    TargetInfo,
    choose_classes,
    class_scores,
)

Score = Callable[[Tensor, Tensor], Tensor]
"""`score(y [M, K], c [M]) -> [M]`."""


@dataclass(frozen=True)
class _OfClass:
    """A score of one class per image.

    Attributes:
        class_index: one class for all images, one per image, or None for the model's own answer.
    """

    class_index: int | tuple[int, ...] | None = None

    def _classes(self, output: Any) -> tuple[Tensor, Tensor]:
        """Clean scores `[N, K]` and classes `[N]`."""
        scores = class_scores(output)
        if scores.shape[1] < 2:
            raise TargetError(
                f"the model returns {list(scores.shape)}: {type(self).__name__} compares classes "
                "and needs at least two; pass target=0 to explain the one output itself"
            )
        return scores, choose_classes(scores, self.class_index)


@dataclass(frozen=True)
class BoundScore:
    """A score whose classes are fixed."""

    kind: str
    score: Score
    classes: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        scores = _float(class_scores(output))
        return self.score(scores, self.classes.to(scores.device)[owner.to(scores.device)])

    def describe(self) -> TargetInfo:
        """Kind and classes."""
        return TargetInfo(
            kind=self.kind, label=f"{self.kind} of {_named(self.classes)}", classes=self.classes
        )


@dataclass(frozen=True)
class Probability(_OfClass):
    """`softmax(y)_c`. Saturates: gradients vanish where the model is sure."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        return BoundScore("probability", _probability, self._classes(output)[1])


@dataclass(frozen=True)
class LogProbability(_OfClass):
    """`log softmax(y)_c`: the logit against the soft maximum of all classes."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        return BoundScore("log probability", _log_probability, self._classes(output)[1])


@dataclass(frozen=True)
class Rest(_OfClass):
    """`y_c + log softmax(y)_c`: the residual softmax score of Shapley-CAM (arXiv 2501.06261)."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        return BoundScore("ReST", _rest, self._classes(output)[1])


@dataclass(frozen=True)
class Margin(_OfClass):
    """`y_c - y_r`, where the rival r is the strongest other class of the clean output."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix class and rival of every image."""
        scores, classes = self._classes(output)
        others = scores.detach().scatter(1, classes[:, None], -torch.inf)
        return BoundMargin(classes, others.argmax(dim=1))


@dataclass(frozen=True)
class BoundMargin:
    """The margin between two fixed classes per image."""

    classes: Tensor  # [N]
    rivals: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Margins `[M]`."""
        scores = _float(class_scores(output))
        owner = owner.to(scores.device)
        ours, theirs = (of.to(scores.device)[owner] for of in (self.classes, self.rivals))
        return _pick(scores, ours) - _pick(scores, theirs)

    def describe(self) -> TargetInfo:
        """Classes and rivals."""
        label = f"{_named(self.classes)} over {_named(self.rivals)}"
        return TargetInfo(kind="margin", label=label, classes=self.classes)


def _probability(scores: Tensor, classes: Tensor) -> Tensor:
    return _pick(scores.softmax(dim=1), classes)


def _log_probability(scores: Tensor, classes: Tensor) -> Tensor:
    return _pick(scores.log_softmax(dim=1), classes)


def _rest(scores: Tensor, classes: Tensor) -> Tensor:
    return _pick(scores, classes) + _log_probability(scores, classes)


def _pick(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None])[:, 0]


def _float(scores: Tensor) -> Tensor:
    """At least float32: half-precision logits lose the differences these scores are made of."""
    return scores if scores.dtype == torch.float64 else scores.float()


def _named(classes: Tensor) -> str:
    different = sorted(set(classes.tolist()))
    return f"class {different[0]}" if len(different) == 1 else f"classes {different}"
