"""The leaderboard itself: numbers, and how they were obtained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from camkit_core import Interval

Kind = Literal["method", "control"]

BASELINE = "center"
"""The control that a cell must beat: a map that only knows that objects are in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row judged by one metric.

    Attributes:
        interval: mean over pictures; each picture counts once, with the mean of its objects.
        better: whether it is better than `BASELINE` on the same pictures, by the interval of the
            difference; None for the baseline itself and where it is not installed.
        undefined: maps (not pictures) for which the metric is undefined, an empty map say.
        maps: all maps.
    """

    interval: Interval
    better: bool | None
    undefined: int
    maps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method or a control."""

    name: str
    kind: Kind
    cells: Mapping[str, Cell]  # by metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Methods and controls, judged by every metric that the pictures have the truth for.

    There is no total rank: the metrics ask different questions, and adding them up would answer
    none.
    """

    model: str
    layers: tuple[str, ...]
    seed: int
    scenes: int
    mosaics: int
    level: float
    metrics: Mapping[str, str]  # name -> what it asks, in the order of the columns
    judged_on: Mapping[str, str]  # name of the metric -> "scenes" or "mosaics"
    left_out: Mapping[str, str]  # name of the metric -> why
    rows: tuple[Row, ...]

    def row(self, name: str, kind: Kind = "method") -> Row:
        """The row of a method, or of a control.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if (row.name, row.kind) == (name, kind):
                return row
        raise KeyError(f"no {kind} {name!r} on the leaderboard")
