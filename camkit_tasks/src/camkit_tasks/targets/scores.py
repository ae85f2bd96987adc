"""Functions of a class's score: probability, log-probability, ReST, margin, counterfactual.

Scores `y` are the logits `[M, K]` found in the model's output; the class `c` of every image, and
the rival of the margin, are fixed on the clean output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import (
    BoundTarget,
    Runner,
    TargetError,
    TargetInfo,
    choose_classes,
    class_scores,
)
from camkit_tasks.targets.labels import of_classes

Score = Callable[[Tensor, Tensor], Tensor]
"""`score(y [M, K], c [M]) -> [M]`."""


@dataclass(frozen=True)
class OfClass:
    """A score of one class per image.

    Attributes:
        class_index: one class for all images, one per image, or None for the model's own answer.
    """

    class_index: int | tuple[int, ...] | None = None

    def classes(self, output: Any, fewest: int = 2) -> tuple[Tensor, Tensor]:
        """Clean scores `[N, K]` and classes `[N]`.

        Raises:
            TargetError: no class scores, fewer than `fewest` of them, or a class out of range.
        """
        scores = class_scores(output)
        if scores.shape[1] < fewest:
            raise TargetError(
                f"the model returns {list(scores.shape)}: {type(self).__name__} compares classes "
                "and needs at least two; pass target=0 to explain the one output itself"
            )
        return scores, choose_classes(scores, self.class_index)


@dataclass(frozen=True)
class _Question(OfClass):
    """A score that comes from probabilities.

    Attributes:
        class_index: see `OfClass`.
        multi_label: every class is a question of its own (sigmoid), not one of several answers
            to the same question (softmax).
    """

    multi_label: bool = False

    def _bound(self, kind: str, score: Score, output: Any) -> BoundTarget:
        return BoundScore(kind, score, self.classes(output, 1 if self.multi_label else 2)[1])


@dataclass(frozen=True)
class BoundScore:
    """A score whose classes are fixed."""

    kind: str
    score: Score
    chosen: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        scores = at_least_float(class_scores(output))
        return self.score(scores, _owned(self.chosen, owner, scores))

    def describe(self) -> TargetInfo:
        """Kind and classes."""
        return of_classes(self.kind, f"{self.kind} of {{}}", self.chosen)


@dataclass(frozen=True)
class Probability(_Question):
    """`softmax(y)_c` or `sigmoid(y_c)`. Saturates: gradients vanish where the model is sure."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        score = _sigmoid if self.multi_label else _softmax
        return self._bound("probability", score, output)


@dataclass(frozen=True)
class LogProbability(_Question):
    """`log softmax(y)_c` (the logit against the soft maximum of all) or `log sigmoid(y_c)`."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        score = _log_sigmoid if self.multi_label else _log_softmax
        return self._bound("log probability", score, output)


@dataclass(frozen=True)
class Rest(_Question):
    """`y_c + log p_c`: the residual softmax score of Shapley-CAM (arXiv 2501.06261)."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        score = _rest_sigmoid if self.multi_label else _rest_softmax
        return self._bound("ReST", score, output)


@dataclass(frozen=True)
class Margin(OfClass):
    """`y_c - y_r`, where the rival r is the strongest other class of the clean output."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix class and rival of every image."""
        scores, classes = self.classes(output)
        others = scores.detach().scatter(1, classes[:, None], -torch.inf)
        return BoundMargin(classes, others.argmax(dim=1))


@dataclass(frozen=True)
class BoundMargin:
    """The margin between two fixed classes per image."""

    chosen: Tensor  # [N]
    rivals: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Margins `[M]`."""
        scores = at_least_float(class_scores(output))
        ours, theirs = (_owned(of, owner, scores) for of in (self.chosen, self.rivals))
        return pick(scores, ours) - pick(scores, theirs)

    def describe(self) -> TargetInfo:
        """Classes and rivals."""
        return of_classes("margin", "{} over {}", self.chosen, self.rivals)


@dataclass(frozen=True)
class Counterfactual(OfClass):
    """`-y_c`: what speaks against a class, as in the Grad-CAM paper (arXiv 1610.02391, 3.3)."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image."""
        return BoundCounterfactual(self.classes(output, fewest=1)[1])


@dataclass(frozen=True)
class BoundCounterfactual:
    """The negated logit of a fixed class per image."""

    chosen: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        scores = class_scores(output)
        return -pick(scores, _owned(self.chosen, owner, scores))

    def describe(self) -> TargetInfo:
        """Against which class. It is not a target *of* that class, so `classes` is None."""
        against = of_classes("counterfactual", "against {}", self.chosen)
        return TargetInfo(kind=against.kind, label=against.label, labels=against.labels)


def _softmax(scores: Tensor, classes: Tensor) -> Tensor:
    return pick(scores.softmax(dim=1), classes)


def _log_softmax(scores: Tensor, classes: Tensor) -> Tensor:
    return pick(scores.log_softmax(dim=1), classes)


def _sigmoid(scores: Tensor, classes: Tensor) -> Tensor:
    return pick(scores, classes).sigmoid()


def _log_sigmoid(scores: Tensor, classes: Tensor) -> Tensor:
    return functional.logsigmoid(pick(scores, classes))


def _rest_softmax(scores: Tensor, classes: Tensor) -> Tensor:
    return pick(scores, classes) + _log_softmax(scores, classes)


def _rest_sigmoid(scores: Tensor, classes: Tensor) -> Tensor:
    return pick(scores, classes) + _log_sigmoid(scores, classes)


def pick(scores: Tensor, classes: Tensor) -> Tensor:
    """Score `[M]` of class `classes[m]` in each row of `[M, K]`."""
    return scores.gather(1, classes[:, None])[:, 0]


def at_least_float(scores: Tensor) -> Tensor:
    """At least float32: half-precision logits lose the differences these scores are made of."""
    return scores if scores.dtype == torch.float64 else scores.float()


def _owned(of_image: Tensor, owner: Tensor, scores: Tensor) -> Tensor:
    """What belongs to the image of every row, on the device of the scores."""
    return of_image.to(scores.device)[owner.to(scores.device)]
