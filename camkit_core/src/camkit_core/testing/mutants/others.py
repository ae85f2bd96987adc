"""Wrong targets, reshapes, metrics and controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from camkit_core.explanation import Explanation
from camkit_core.metric import MetricModel
from camkit_core.outputs import class_scores
from camkit_core.protocols import Evidence, TargetInfo
from camkit_core.reshapes import ChannelsFirst
from camkit_core.targets import ClassTarget
from camkit_core.testing.layouts import TokenGrid
from camkit_core.testing.mutants.mutant import Mutant

# -- targets ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TopClass:
    """The class is chosen anew on every output."""

    def bind(self, output: Any, run: Any, /) -> TopClass:
        """Nothing is fixed."""
        class_scores(output)
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """The largest logit, whichever it is."""
        return class_scores(output).amax(1)

    def describe(self) -> TargetInfo:
        """The classes of the kit's clean output."""
        return TargetInfo(kind="class", label="top class", classes=torch.tensor([1, 3, 1, 0]))


@dataclass(frozen=True)
class IgnoresOwners:
    """Row m is scored as image m, whoever owns it."""

    def bind(self, output: Any, run: Any, /) -> _ByRow:
        """The top classes."""
        return _ByRow(class_scores(output).argmax(1))


@dataclass(frozen=True)
class _ByRow:
    classes: Tensor

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """The classes, repeated as often as needed."""
        scores = class_scores(output)
        times = -(-len(scores) // len(self.classes))
        return scores.gather(1, self.classes.repeat(times)[: len(scores), None])[:, 0]

    def describe(self) -> TargetInfo:
        """The classes."""
        return TargetInfo(kind="class", label="top class", classes=self.classes)


@dataclass(frozen=True)
class DetachedScore:
    """The score is cut off from gradients."""

    def bind(self, output: Any, run: Any, /) -> _Detached:
        """The top classes."""
        return _Detached(class_scores(output).argmax(1))


class _Detached(_ByRow):
    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """No gradient."""
        return class_scores(output).detach().gather(1, self.classes[owner, None])[:, 0]


class BindsItself:
    """`bind` returns the target itself, with the classes of the last output."""

    def bind(self, output: Any, run: Any, /) -> BindsItself:
        """The second call overwrites the first."""
        self.classes = class_scores(output).argmax(1)
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Of the classes seen last."""
        return class_scores(output).gather(1, self.classes[owner, None])[:, 0]

    def describe(self) -> TargetInfo:
        """The classes."""
        return TargetInfo(kind="class", label="top class", classes=self.classes)


# -- reshapes ---------------------------------------------------------------------------------


class ClassTokenKept(TokenGrid):
    """The class token is taken for the first position."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """Shifted by one, the last position lost."""
        kept: Tensor = output[:, : output.shape[1] - self.prefix].transpose(1, 2)
        return kept.reshape(*kept.shape[:2], *self.grid)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Undoes it."""
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([tokens, like[:, like.shape[1] - self.prefix :]], 1)


class TransposedGrid(TokenGrid):
    """Columns are taken for rows."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """Transposed."""
        return super().to_spatial(output).transpose(2, 3)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Undoes it."""
        return super().from_spatial(maps.transpose(2, 3), like)


class PrefixLost(TokenGrid):
    """The prefix tokens come back as zeros."""

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """What `like` had is lost."""
        return super().from_spatial(maps, like * 0)


class Scaling(TokenGrid):
    """The picture is scaled on the way."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """Not a selection."""
        return super().to_spatial(output) / 2

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Undoes it."""
        return super().from_spatial(maps * 2, like)


class BatchOfOne(TokenGrid):
    """Every image gets the picture of the first."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """Expanded."""
        return super().to_spatial(output[:1]).expand(len(output), -1, *self.grid)


# -- metrics and controls ---------------------------------------------------------------------


class Energy(MetricModel):
    """Share of the map inside the truth: right."""

    name: ClassVar[str] = "share"

    def masked(self, explanation: Explanation, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Map and mask, flat."""
        mask = self.truth(explanation, evidence).target
        return explanation.maps.flatten(1), mask.flatten(1).to(explanation.maps)

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """`sum(map in truth) / sum(map)`, NaN for an empty map."""
        maps, mask = self.masked(explanation, evidence)
        return (maps * mask).sum(1) / maps.sum(1)


class BatchEnergy(Energy):
    """Divides by the sum over the batch."""

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """Depends on the neighbours."""
        maps, mask = self.masked(explanation, evidence)
        return (maps * mask).sum(1) / maps.sum()


class MeanValue(Energy):
    """Returns one number for the batch."""

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """The mean."""
        return super().__call__(explanation, evidence).mean()


class WrongDirection(Energy):
    """Says that less is better."""

    higher_is_better: ClassVar[bool] = False


class ShuffledTies(Energy):
    """Breaks ties with the global generator."""

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """Another value every time."""
        maps, mask = self.masked(explanation, evidence)
        noisy = maps + 1e-3 * torch.rand_like(maps)
        return (noisy * mask).sum(1) / noisy.sum(1)


class NormalizesMaps(Energy):
    """Scales the explanation's own maps."""

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """The caller's maps change."""
        explanation.maps.mul_(0.5)
        return super().__call__(explanation, evidence)


class RandomControl:
    """Uniform noise from the seed: right."""

    name: ClassVar[str] = "noise"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """`[N, *S]` in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(explanation.maps.shape, generator=generator)


class UnseededControl(RandomControl):
    """Ignores its seed."""

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """Another map every time."""
        return torch.rand(explanation.maps.shape)


def _of(kind: Any, killer: str, *arguments: Any) -> Mutant:
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Mutant(kind.__name__, fault, killer, lambda: kind(*arguments))


_GRID = (1, (14, 14))

RIGHT = (
    _of(ClassTarget, ""),
    _of(ChannelsFirst, ""),
    _of(TokenGrid, "", *_GRID),
    _of(Energy, ""),
    _of(RandomControl, ""),
)

MUTANTS = (
    _of(TopClass, "frozen"),
    _of(IgnoresOwners, "owners"),
    _of(DetachedScore, "gradients"),
    _of(BindsItself, "no_memory"),
    _of(ClassTokenKept, "known_layouts", *_GRID),
    _of(TransposedGrid, "raster_order", *_GRID),
    _of(PrefixLost, "round_trip", *_GRID),
    _of(Scaling, "structural", *_GRID),
    _of(BatchOfOne, "batches", *_GRID),
    _of(BatchEnergy, "batch_independence"),
    _of(MeanValue, "values"),
    _of(WrongDirection, "direction"),
    _of(ShuffledTies, "repeatable"),
    _of(NormalizesMaps, "untouched"),
    _of(UnseededControl, "seed"),
)
