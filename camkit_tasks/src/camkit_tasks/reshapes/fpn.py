"""Dictionaries of maps, as feature pyramids return them: all levels on one grid, or one level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import interpolate

from camkit_core import LayoutError

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
Levels = dict[str, Tensor]


class FPN(BaseModel):
    """Levels `[N, C_l, *S_l]` as `[N, sum C_l, *S]`, or one of them as it is.

    A detector reads every object from one level only, so one level alone is blind to most objects.
    Together they are resized (linearly) to the grid of the middle level and put side by side. That
    moves no value exactly, but it is linear, and so is what a gradient means in it: Grad-CAM, say,
    is the sum of the levels' own maps. Back come all channels that did not change as they were,
    and the others resized, so that ablating a channel is exact.

    grad-cam's `fasterrcnn_reshape_transform` is `grid="pool"` of the absolute values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "fpn"

    level: str | None = Field(default=None, description="name or number of one level; None: all")
    grid: str | None = Field(
        default=None, description="level whose grid all are resized to; None: the middle one"
    )

    @classmethod
    def example(cls) -> tuple[FPN, Any]:
        """One level, and a dictionary that has it, for conformance checks."""
        sizes = ((8, 12), (4, 6), (2, 3))
        return cls(level="1"), {str(k): torch.zeros(2, 4, *size) for k, size in enumerate(sizes)}

    def to_spatial(self, output: Any, /) -> Tensor:
        """All levels on one grid, channels one after the other; or the level.

        Raises:
            LayoutError: not several maps, or no such level.
        """
        levels = levels_of(output)
        if self.level is not None:
            return levels[_named(self.level, levels)]
        size = self._size(levels)
        return torch.cat([_resized(level, size) for level in levels.values()], 1)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """`like` with its level exchanged, or with the channels that changed.

        Raises:
            LayoutError: the maps do not fit.
        """
        levels = levels_of(like)
        if self.level is not None:
            name = _named(self.level, levels)
            _need(maps, levels[name].shape)
            return _put({name: maps}, like)
        size = self._size(levels)
        counts = [level.shape[1] for level in levels.values()]
        _need(maps, torch.Size((len(maps), sum(counts), *size)))
        parts = zip(levels.items(), maps.split(counts, 1), strict=True)
        return _put({name: _changed(level, part) for (name, level), part in parts}, like)

    def _size(self, levels: Levels) -> torch.Size:
        names = sorted(levels, key=lambda name: math.prod(levels[name].shape[2:]))
        name = names[len(names) // 2] if self.grid is None else _named(self.grid, levels)
        return levels[name].shape[2:]


def is_pyramid(output: Any, image: Tensor) -> bool:
    """Whether a layer returned a dictionary of maps of the image at several sizes."""
    if not isinstance(output, Mapping) or len(output) < 2:
        return False
    maps = list(output.values())
    if not all(isinstance(one, Tensor) and one.is_floating_point() for one in maps):
        return False
    alike = all(one.ndim == image.ndim and len(one) == len(image) for one in maps)
    return alike and len({one.shape[2:] for one in maps}) > 1


def levels_of(output: Any) -> Levels:
    """The maps of a dictionary or list by name.

    Raises:
        LayoutError: it holds something else.
    """
    if isinstance(output, Mapping):
        found = {str(name): level for name, level in output.items()}
    elif isinstance(output, Sequence):
        found = {str(number): level for number, level in enumerate(output)}
    else:
        found = {}
    maps = [one for one in found.values() if isinstance(one, Tensor) and one.ndim > 2]
    if len(maps) != len(found) or len({(len(one), one.ndim) for one in maps}) != 1:
        shown = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise LayoutError(
            f"a feature pyramid is a dictionary or list of maps [N, C, *S], but the layer returns "
            f"{shown}; reshape='fpn' is for the backbone of a detector, see `camkit layers`"
        )
    return found


def _named(level: str, levels: Levels) -> str:
    if level not in levels:
        raise LayoutError(f"the pyramid has no level {level!r}, only {', '.join(levels)}")
    return level


def _need(maps: Tensor, wanted: torch.Size) -> None:
    if maps.shape != wanted:
        raise LayoutError(
            f"maps {list(maps.shape)} do not fit the pyramid: expected {list(wanted)}"
        )


def _changed(level: Tensor, maps: Tensor) -> Tensor:
    """The level, with those channels from the maps that are not its own resized ones."""
    same = (maps == _resized(level, maps.shape[2:])).flatten(2).all(2)
    same = same.reshape(*same.shape, *(1,) * (level.ndim - 2))
    return level.where(same, _resized(maps, level.shape[2:]).to(level.dtype))


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return interpolate(maps, tuple(size), mode=_MODES[len(size)], align_corners=False)


def _put(changed: Levels, like: Any) -> Any:
    """A container of the same type and order with some levels exchanged."""
    kind: Any = type(like)
    if isinstance(like, Mapping):
        return kind({key: changed.get(str(key), level) for key, level in like.items()})
    return kind(changed.get(str(number), level) for number, level in enumerate(like))
