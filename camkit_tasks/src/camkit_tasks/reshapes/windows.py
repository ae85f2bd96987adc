"""Windows as pictures: attention inside Swin-type and MaxViT blocks, patches of MobileViTv2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from camkit_core import ChannelsFirst, LayoutError

_CONTAINER = ChannelsFirst()  # picks the tensor out of a layer's output, and puts one back

Side = Annotated[int, Field(ge=1)]
Step = Annotated[int, Field(ge=0)]


class Windows(BaseModel):
    """Windows put back in their places, shifted back, without padding, to `[N, C, *grid]`.

    Read are `[N * windows, positions, C]`, `[N * windows, *window, C]` and
    `[N, windows, positions, C]`, windows and the positions in them in reading order; and
    `[N, C, positions, windows]` if channels are first. Without a grid the picture is one window,
    and without a window this is a square.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: tuple[Side, ...] | None = Field(
        default=None, description="positions per axis of one window, e.g. 7x7"
    )
    grid: tuple[Side, ...] | None = Field(
        default=None, description="positions per axis of the picture, e.g. 56x56"
    )
    shift: tuple[Step, ...] = Field(
        default=(), description="cyclic shift per axis before cutting, e.g. 3x3; none by default"
    )
    spread: bool = Field(
        default=False, description="a window's positions are spread over the picture (grid windows)"
    )
    padded: Literal["after", "before"] = Field(
        default="after", description="whether the picture was padded after or before the shift"
    )
    channels: Literal["last", "first"] = Field(
        default="last", description="first: [N, C, positions, windows], as unfolded patches are"
    )

    @field_validator("window", "grid", "shift", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """`"7x7"`, as specifications have it."""
        return value.lower().split("x") if isinstance(value, str) else value

    def to_spatial(self, output: Any, /) -> Tensor:
        """`[N, C, *grid]`.

        Raises:
            LayoutError: no such windows; the message has the sums.
        """
        tensor = self._turned(_CONTAINER.to_spatial(output))
        cut = self._cut(tensor)
        canvas = cut.merged(tensor)
        if self.padded == "before":
            return cut.cropped(self._rolled(canvas, 1)).movedim(-1, 1)
        return self._rolled(cut.cropped(canvas), 1).movedim(-1, 1)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Maps `[N, C, *grid]` cut into windows; what was padding stays as in `like`.

        Raises:
            LayoutError: the maps do not fit the windows of `like`.
        """
        tensor = self._turned(_CONTAINER.to_spatial(like))
        cut = self._cut(tensor)
        canvas = cut.merged(tensor)
        expected = (len(canvas), canvas.shape[-1], *cut.grid)
        if maps.shape != expected:
            raise LayoutError(
                f"maps {list(maps.shape)} do not fit windows {list(tensor.shape)}: expected "
                f"{list(expected)}"
            )
        picture = maps.movedim(1, -1).to(tensor.dtype)
        if self.padded == "before":
            canvas = self._rolled(cut.filled(self._rolled(canvas, 1), picture), -1)
        else:
            canvas = cut.filled(canvas, self._rolled(picture, -1))
        parts = cut.apart(canvas).reshape(tensor.shape)
        return _CONTAINER.from_spatial(self._turned(parts), like)

    def _turned(self, tensor: Tensor) -> Tensor:
        """Channels last, or back."""
        if self.channels == "last":
            return tensor
        if tensor.ndim != 4:
            raise LayoutError(
                "windows with channels=first are [N, C, positions, windows], but the layer is "
                f"{_of(tensor)}; leave channels out, or see `camkit layers`"
            )
        return tensor.transpose(1, 3)

    def _rolled(self, picture: Tensor, sign: int) -> Tensor:
        if not any(self.shift):
            return picture
        return picture.roll([sign * s for s in self.shift], list(range(1, 1 + len(self.shift))))

    def _cut(self, tensor: Tensor) -> _Cut:
        if tensor.ndim < 3:
            raise LayoutError(f"windows have places and channels, but the layer is {_of(tensor)}")
        window = self.window or (math.isqrt(tensor.shape[-2]),) * 2
        cut = _Cut(window, self.grid or window, self.spread)
        if not cut.reads(tensor):
            raise LayoutError(
                f"the layer is {_of(tensor)}, but a picture of {_by(cut.grid)} in windows of "
                f"{_by(window)} is N x {cut.windows} ({_by(cut.counts)}) windows of "
                f"{math.prod(window)} positions; correct window= or grid=, see `camkit layers`"
            )
        return cut


@dataclass(frozen=True)
class _Cut:
    """A padded picture `[N, *whole windows, C]` and its windows."""

    window: tuple[int, ...]
    grid: tuple[int, ...]
    spread: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows per axis."""
        sides = zip(self.grid, self.window, strict=True)
        return tuple(-(-length // side) for length, side in sides)

    @property
    def windows(self) -> int:
        """Windows of one picture."""
        return math.prod(self.counts)

    def reads(self, tensor: Tensor) -> bool:
        """Whether the tensor is one of the three forms."""
        axes, inside = len(self.grid), math.prod(self.window)
        sides = tensor.ndim == axes + 2 and tensor.shape[1:-1] == self.window
        flat = tensor.ndim in (3, 4) and tensor.shape[-2] == inside
        if sides or tensor.ndim == 3:
            return (sides or flat) and len(tensor) % self.windows == 0
        return flat and tensor.shape[1] == self.windows

    def merged(self, tensor: Tensor) -> Tensor:
        """The padded picture."""
        parts = tensor.reshape(-1, *self.counts, *self.window, tensor.shape[-1])
        pairs = zip(self.counts, self.window, strict=True)
        whole = [count * side for count, side in pairs]
        return parts.permute(self._order).reshape(len(parts), *whole, tensor.shape[-1])

    def apart(self, canvas: Tensor) -> Tensor:
        """Windows `[N, *counts, *window, C]` of the padded picture."""
        pairs = zip(self.counts, self.window, strict=True)
        halves = [pair[::-1] if self.spread else pair for pair in pairs]
        split = canvas.reshape(len(canvas), *(n for half in halves for n in half), canvas.shape[-1])
        return split.permute(sorted(range(split.ndim), key=self._order.__getitem__))

    def cropped(self, canvas: Tensor) -> Tensor:
        """Without the padding at the ends."""
        return canvas[(slice(None), *(slice(length) for length in self.grid))]

    def filled(self, canvas: Tensor, picture: Tensor) -> Tensor:
        """With another picture in front of the padding."""
        canvas = canvas.clone()
        canvas[(slice(None), *(slice(length) for length in self.grid))] = picture
        return canvas

    @property
    def _order(self) -> list[int]:
        """Axes of `[N, *counts, *window, C]` as count and side of every axis, side by side."""
        axes = len(self.grid)
        pairs = [(1 + axis, 1 + axes + axis) for axis in range(axes)]
        flat = [one for pair in pairs for one in (pair[::-1] if self.spread else pair)]
        return [0, *flat, 2 * axes + 1]


def _of(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
