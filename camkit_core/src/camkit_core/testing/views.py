"""Class scores for methods that ask a target for more than its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from camkit_core.protocols import BoundTarget, Runner, Target, TargetInfo
from camkit_core.targets import CallableTarget, ClassTarget


def with_views(request: Any, views: Sequence[str]) -> Any:
    """What a check asks for, as a target that has these views: its score stands for each of them.

    The networks of the checks are classifiers, and so are their equations. What such a method owes
    the engine is the same there; what a view is worth is for the tests of the method's own formula.
    """
    return Viewed(_target(request), tuple(views)) if views else request


def _target(request: Any) -> Target:
    if request is None or isinstance(request, int):
        return ClassTarget(request)
    if isinstance(request, list):
        return ClassTarget(tuple(request))
    return request if isinstance(request, Target) else CallableTarget(request)


@dataclass(frozen=True)
class Viewed:
    """Another target, with views."""

    target: Target
    views: tuple[str, ...]

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """As the other binds."""
        return BoundViewed(self.target.bind(output, run), self.views)


@dataclass(frozen=True)
class BoundViewed:
    """Another bound target, which is each of its own views."""

    bound: BoundTarget
    views: tuple[str, ...]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        return self.bound(output, owner)

    def describe(self) -> TargetInfo:
        """As the other."""
        return self.bound.describe()

    def __getattr__(self, name: str) -> BoundTarget:
        if name in self.__dict__.get("views", ()):
            return self.bound
        raise AttributeError(name)
