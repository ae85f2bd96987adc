"""Small helpers for texts."""

from __future__ import annotations

from collections.abc import Sequence

RANDOM_NOTE = (
    "weights are random: the maps show what the architecture does, not what a trained network saw"
)


def first_few(names: Sequence[str], *, count: int = 3) -> str:
    """`"a, b, c and 7 more"`."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


def one_line(error: BaseException) -> str:
    """Type and text of an exception, without line breaks."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
