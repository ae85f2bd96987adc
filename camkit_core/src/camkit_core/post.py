"""From raw maps to display maps: explicit steps, in order, in torch.

Every step takes the maps of all layers, `[N, *S_layer]` each, and the input's spatial size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from camkit_core.errors import OptionError
from camkit_core.registry import near

Maps = list[Tensor]


class Step(Protocol):
    """One step of post-processing."""

    def __call__(self, maps: Maps, size: Sequence[int], /) -> Maps:
        """Changed maps, one per layer (or one in all)."""
        ...


@dataclass(frozen=True)
class Relu:
    """Keep evidence for the target, drop evidence against it."""

    def __call__(self, maps: Maps, size: Sequence[int], /) -> Maps:
        """max(x, 0)."""
        return [one.relu() for one in maps]


@dataclass(frozen=True)
class Normalize:
    """Scale each map by itself.

    `minmax`: (x - min) / (max - min). `max`: x / max|x|, zero stays zero and the sign is kept.
    A constant map has nothing to show and becomes zero under `minmax`.
    """

    how: Literal["minmax", "max"] = "minmax"

    def __call__(self, maps: Maps, size: Sequence[int], /) -> Maps:
        """Scaled maps."""
        return [_minmax(one) if self.how == "minmax" else _by_max(one) for one in maps]


@dataclass(frozen=True)
class Resize:
    """Linear interpolation to the input's size (pixel centers, no corner alignment)."""

    def __call__(self, maps: Maps, size: Sequence[int], /) -> Maps:
        """Maps at the input's resolution."""
        return [_resize(one, size) for one in maps]


@dataclass(frozen=True)
class Merge:
    """One map from the maps of several layers (of equal size)."""

    how: Literal["mean", "max"] = "mean"

    def __call__(self, maps: Maps, size: Sequence[int], /) -> Maps:
        """A single map."""
        if len(maps) == 1:
            return maps
        stacked = torch.stack(maps)
        return [stacked.mean(0) if self.how == "mean" else stacked.amax(0)]


@dataclass(frozen=True)
class Post:
    """A named sequence of steps."""

    name: str
    steps: tuple[Step, ...] = field(default=())

    def __call__(self, maps: Maps, size: Sequence[int]) -> Tensor:
        """Display maps `[N, *size]`.

        Raises:
            OptionError: the steps did not end in one map of the input's size.
        """
        for step in self.steps:
            maps = step(maps, size)
        if len(maps) != 1 or maps[0].shape[1:] != torch.Size(size):
            shapes = [list(one.shape) for one in maps]
            raise OptionError(
                f"post={self.name!r} ended with {shapes}; it must end with one map of the input's "
                f"size {list(size)}: add Resize() and Merge()"
            )
        return maps[0]

    @cached_property
    def description(self) -> tuple[str, ...]:
        """The steps as text, for the provenance."""
        return tuple(
            repr(step) if hasattr(step, "__dataclass_fields__") else _name(step)
            for step in self.steps
        )


DEFAULT_POST = Post("default", (Relu(), Normalize(), Resize(), Merge(), Normalize()))
PRESETS = {
    "default": DEFAULT_POST,
    "signed": Post("signed", (Resize(), Normalize("max"), Merge(), Normalize("max"))),
    "raw": Post("raw", (Resize(), Merge())),
}


def as_post(request: Any) -> Post:
    """Post-processing from a preset's name, a `Post`, or a sequence of steps.

    Raises:
        OptionError: something else.
    """
    if isinstance(request, Post):
        return request
    if isinstance(request, str):
        if request not in PRESETS:
            raise OptionError(
                f"post={request!r} is not one of {', '.join(PRESETS)}{near(request, PRESETS)}"
            )
        return PRESETS[request]
    if isinstance(request, Sequence) and all(callable(step) for step in request):
        return Post("custom", tuple(request))
    raise OptionError(f"post={request!r}: give one of {', '.join(PRESETS)}, or a sequence of steps")


def _name(step: Callable[..., Any]) -> str:
    return getattr(step, "__name__", type(step).__name__)


def rounding(dtype: torch.dtype) -> float:
    """Relative variation that is rounding, not a pattern: stretching it would draw noise."""
    return 64 * torch.finfo(dtype).eps


def _minmax(maps: Tensor) -> Tensor:
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    span, scale = high - low, torch.maximum(high.abs(), low.abs())
    flat = span <= rounding(maps.dtype) * scale
    return (maps - low).div_(torch.where(flat, torch.inf, span))


def _by_max(maps: Tensor) -> Tensor:
    top = maps.abs().amax(tuple(range(1, maps.ndim)), keepdim=True)
    return maps / torch.where(top == 0, torch.inf, top)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.shape[1:] == torch.Size(size):
        return maps
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}.get(len(size))
    if mode:
        return interpolate(maps[:, None], tuple(size), mode=mode, align_corners=False)[:, 0]
    for axis, length in enumerate(size, start=1):
        last = maps.movedim(axis, -1)
        flat = interpolate(last.reshape(1, -1, last.shape[-1]), length, mode="linear")
        maps = flat.reshape(*last.shape[:-1], length).movedim(-1, axis)
    return maps
