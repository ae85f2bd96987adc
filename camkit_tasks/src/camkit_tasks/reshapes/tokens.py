"""`[N, T, C]` token sequences as pictures: prefix tokens (class, registers) first, then a grid."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, cat

from camkit_core import ChannelsFirst, LayoutError

MAX_PREFIX = 16
"""Most prefix tokens that are looked for; published networks have at most eight or so."""

_CONTAINER = ChannelsFirst()  # picks the tensor out of a layer's output, and puts one back

Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1)]


class Tokens(BaseModel):
    """Tokens `[N, T, C]` with T = prefix + product of the grid, rows first, to `[N, C, *grid]`.

    Without a grid a square is assumed; without a prefix too, exactly one of 0 to 16 prefix tokens
    must leave a square. Inputs that are not square need the grid: 7 x 28 = 14 x 14.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: Count | None = Field(
        default=None, description="tokens before the grid: class token, registers"
    )
    grid: tuple[Side, ...] | None = Field(
        default=None, description="positions per spatial axis, e.g. 14x14"
    )

    @field_validator("grid", mode="before")
    @classmethod
    def _read_grid(cls, value: Any) -> Any:
        """`"14x14"`, as specifications have it."""
        return value.lower().split("x") if isinstance(value, str) else value

    def to_spatial(self, output: Any, /) -> Tensor:
        """Without the prefix, channels second, positions on the grid: `[N, C, *grid]`.

        Raises:
            LayoutError: not `[N, T, C]`, or T is not prefix + grid; the message has the sums.
        """
        tokens = _sequence(output)
        prefix, grid = self._layout(tokens.shape[1])
        patches = tokens[:, prefix:].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *grid)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Maps `[N, C, *grid]` as tokens behind the prefix tokens of `like`.

        Raises:
            LayoutError: the maps do not fit the tokens of `like`.
        """
        tokens = _sequence(like)
        prefix, grid = self._layout(tokens.shape[1])
        expected = (tokens.shape[0], tokens.shape[2], *grid)
        if maps.shape != expected:
            raise LayoutError(
                f"maps {list(maps.shape)} do not fit tokens {list(tokens.shape)}: expected "
                f"{list(expected)} ({token_sum(tokens.shape[1], prefix, grid)})"
            )
        patches = maps.flatten(2).transpose(1, 2).to(tokens.dtype)
        return _CONTAINER.from_spatial(cat([tokens[:, :prefix], patches], dim=1), like)

    def _layout(self, count: int) -> tuple[int, tuple[int, ...]]:
        """Prefix and grid for T = `count`."""
        if self.grid is not None:
            return _with_grid(count, self.prefix, self.grid), self.grid
        if self.prefix is not None:
            return self.prefix, _square(count, self.prefix)
        fitting = _fitting(count)
        if len(fitting) != 1:
            raise LayoutError(_undecided(count, fitting))
        return fitting[0]


def _sequence(output: Any) -> Tensor:
    tokens = _CONTAINER.to_spatial(output)
    if tokens.ndim != 3:
        raise LayoutError(
            f"tokens must be [N, T, C], but the layer returns {list(tokens.shape)}; "
            "reshape='tokens' is for transformer blocks, see `camkit layers`"
        )
    return tokens


def _with_grid(count: int, prefix: int | None, grid: tuple[int, ...]) -> int:
    """The prefix that goes with a grid."""
    left = count - math.prod(grid)
    if left >= 0 and prefix in (None, left):
        return left
    found = token_sum(count, left, grid) if left >= 0 else f"{count} is less than {by_dots(grid)}"
    named = "" if prefix is None else f"prefix={prefix} given, "
    raise LayoutError(
        f"{found}; {named}grid={'x'.join(map(str, grid))} given, but the layer has {count} tokens: "
        "correct one of them, or leave the prefix out to have it found"
    )


def _square(count: int, prefix: int) -> tuple[int, int]:
    side = math.isqrt(max(count - prefix, 0))
    if side and side * side == count - prefix:
        return side, side
    sums = [token_sum(count, *reading) for reading in _fitting(count)]
    found = " or ".join(sums) or f"{count} = {prefix} + {count - prefix}"
    raise LayoutError(
        f"{found}; prefix={prefix} given, which leaves {count - prefix} of the layer's {count} "
        "tokens, no square: correct the prefix or give the grid, e.g. "
        "reshape='tokens:prefix=1,grid=7x28'"
    )


def _fitting(count: int) -> list[tuple[int, tuple[int, int]]]:
    """All readings as a few prefix tokens and a square."""
    sides = {prefix: math.isqrt(count - prefix) for prefix in range(min(MAX_PREFIX, count - 1) + 1)}
    return [
        (prefix, (side, side)) for prefix, side in sides.items() if side * side == count - prefix
    ]


def _undecided(count: int, fitting: list[tuple[int, tuple[int, int]]]) -> str:
    if not fitting:
        return (
            f"the layer has {count} tokens: no square with 0 to {MAX_PREFIX} prefix tokens; give "
            "the grid, e.g. reshape='tokens:prefix=1,grid=7x28'"
        )
    prefix, grid = fitting[0]
    readings = " and ".join(token_sum(count, *reading) for reading in fitting)
    return (
        f"the layer has {count} tokens, which reads as {readings}; say which, e.g. "
        f"reshape={tokens_spec(prefix, grid)!r}"
    )


def token_sum(count: int, prefix: int, grid: tuple[int, ...]) -> str:
    """`197 = 1 + 14·14`."""
    return f"{count} = {prefix} + {by_dots(grid)}"


def by_dots(grid: tuple[int, ...]) -> str:
    """`14·14`."""
    return "·".join(map(str, grid))


def tokens_spec(prefix: int, grid: tuple[int, ...]) -> str:
    """The reshape as one writes it: `tokens:prefix=1,grid=14x14`."""
    return f"tokens:prefix={prefix},grid={'x'.join(map(str, grid))}"
