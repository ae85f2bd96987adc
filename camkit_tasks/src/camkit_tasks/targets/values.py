"""Numbers of an output that are no class scores: one logit for yes or no, regression, raw ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from camkit_core import BoundTarget, Runner, TargetError, TargetInfo, main_tensor
from camkit_tasks.targets.labels import described
from camkit_tasks.targets.scores import at_least_float


@dataclass(frozen=True)
class Binary:
    """`y` or `-y` of a model with one logit, `[N, 1]` or `[N]`.

    Attributes:
        positive: the side that is explained; None for the one the model is on, `y > 0` being
            positive.
    """

    positive: bool | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the side of every image.

        Raises:
            TargetError: the model returns more than one number per image.
        """
        logits = _one(output).detach()
        said = torch.full_like(logits, 1 if self.positive else -1)
        return BoundBinary(torch.where(logits > 0, 1, -1) if self.positive is None else said)

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A target and a clean output for it, for conformance checks."""
        return cls(), torch.tensor([[0.5], [-2.0], [1.5], [-0.25]], dtype=torch.float64)


@dataclass(frozen=True)
class BoundBinary:
    """A fixed side per image."""

    signs: Tensor  # [N], 1 or -1

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        logits = _one(output)
        return logits * self.signs.to(logits)[owner.to(logits.device)]

    def describe(self) -> TargetInfo:
        """The side."""
        names = {1: "positive answer", -1: "negative answer"}
        return described("binary", [names[int(sign)] for sign in self.signs.tolist()])


@dataclass(frozen=True)
class Value:
    """Output k as it is, `y_k`, or how close it is to a given value, `-|y_k - at|`.

    Attributes:
        index: k, of an output `[N, K]`; 0 also for `[N]`.
        at: the value; None explains `y_k` itself.
    """

    index: int = 0
    at: float | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Check that there is such an output."""
        self._values(output)
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        values = at_least_float(self._values(output))
        return values if self.at is None else -(values - self.at).abs()

    def describe(self) -> TargetInfo:
        """Which output."""
        one = f"output {self.index}"
        label = one if self.at is None else f"{one} close to {self.at:g}"
        return TargetInfo(kind="value", label=label)

    def _values(self, output: Any) -> Tensor:
        values = main_tensor(output)
        columns = values[:, None] if values.ndim == 1 else values
        if columns.ndim != 2:
            raise TargetError(
                f"output {self.index} of {list(values.shape)} is not one number per image; give "
                "the whole index with target='raw:...'"
            )
        if not 0 <= self.index < columns.shape[1]:
            raise TargetError(
                f"output {self.index} is out of range: the model has outputs "
                f"0..{columns.shape[1] - 1}"
            )
        return columns[:, self.index]


@dataclass(frozen=True)
class Raw:
    """One number of the raw output, `output[n, i, j, ...]`.

    Attributes:
        index: i, j, ...; empty where the model returns one number per image.
    """

    index: tuple[int, ...] = ()

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Check that there is such a number.

        Raises:
            TargetError: the output has no single floating tensor, or no such index.
        """
        self._values(output)
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Numbers `[M]`."""
        return self._values(output)

    def describe(self) -> TargetInfo:
        """The index."""
        place = "".join(f"[{index}]" for index in self.index)
        return TargetInfo(kind="raw", label=f"raw output {place}".strip())

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A target and a clean output for it, for conformance checks."""
        return cls((2, 1)), torch.linspace(-1, 2, 24, dtype=torch.float64).reshape(4, 3, 2)

    def _values(self, output: Any) -> Tensor:
        values = main_tensor(output)
        inside = list(values.shape[1:])
        if not self.index and values[:1].numel() in (0, 1):
            return values.flatten()
        if len(self.index) != len(inside):
            raise TargetError(
                f"the model returns {list(values.shape)}: {len(inside)} indices name one number "
                f"per image, {len(self.index)} were given"
            )
        for position, (index, size) in enumerate(zip(self.index, inside, strict=True)):
            if not 0 <= index < size:
                raise TargetError(
                    f"index {index} at place {position} is out of range: the model returns "
                    f"{list(values.shape)}"
                )
        place: tuple[slice | int, ...] = (slice(None), *self.index)
        return values[place]


def _one(output: Any) -> Tensor:
    logits = main_tensor(output)
    if logits.ndim not in (1, 2) or logits[:1].numel() > 1:
        raise TargetError(
            f"a binary target needs one logit per image, [N] or [N, 1], but the model returned "
            f"{list(logits.shape)}; pass a class"
        )
    return at_least_float(logits).flatten()
