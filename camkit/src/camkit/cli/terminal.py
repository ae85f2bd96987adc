"""What people and programs read: text on stderr, JSON lines on stdout."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_WRAPPED = 24
"""Columns that may break lines are at least this wide."""

_TALK = Group("What is printed", sort_key=9)


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class Talk:
    """How much is said, and in which form."""

    json: Annotated[bool, Parameter(group=_TALK, show_default=False)] = False
    """Write one JSON object per line to stdout; text for people always goes to stderr."""

    quiet: Annotated[bool, Parameter(alias="-q", group=_TALK, show_default=False)] = False
    """Say nothing but warnings and errors."""

    verbose: Annotated[int, Parameter(alias="-v", count=True, group=_TALK, show_default=False)] = 0
    """Say more; twice (-vv) adds the traceback of an error."""

    def say(self, text: str, style: str = "") -> None:
        """Text for people, unless quiet."""
        if not self.quiet:
            _line(text, style)

    def show(self, table: Table) -> None:
        """A table for people, unless quiet."""
        if not self.quiet:
            console = stderr()
            console.width = max(console.width, _least_width(table))
            console.print(table)

    def listing(self) -> Talk:
        """For commands whose text says the same as their JSON: only one of the two."""
        return dataclasses.replace(self, quiet=True) if self.json else self

    def warn(self, text: str) -> None:
        """A warning, also if quiet."""
        _line(f"warning: {_joined(text)}", "yellow")

    def emit(self, record: Mapping[str, Any]) -> None:
        """One JSON line on stdout, if asked for."""
        if self.json:
            sys.stdout.write(dumps(record) + "\n")
            sys.stdout.flush()


def columns(*names: str, right: Sequence[str] = (), wrap: Sequence[str] = ()) -> Table:
    """An empty table; only the columns in `wrap` may break lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in wrap,
            overflow="fold",
        )
    return table


def _least_width(table: Table) -> int:
    """Width at which no name is cut; a terminal that is narrower breaks the lines itself."""
    from rich.cells import cell_len

    wide = 0
    for column in table.columns:
        longest = max(cell_len(str(text)) for text in (column.header, *column.cells))
        wide += (longest if column.no_wrap else min(longest, _WRAPPED)) + 2
    return wide


def cell(text: object, style: str = "") -> Text:
    """Table cell with exactly this text."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def stderr() -> Console:
    """A console on the current stderr; rich honors NO_COLOR and terminals without color."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def print_error(text: str) -> None:
    """The one line of a failed command."""
    _line(f"error: {_joined(text)}", "bold red")


def _joined(text: str) -> str:
    return " ".join(text.split())


def _line(text: str, style: str) -> None:
    from rich.text import Text

    stderr().print(Text(printable(text), style=style), soft_wrap=True)


def printable(text: str) -> str:
    """`text` without control characters, which could rewrite the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def dumps(record: Mapping[str, Any], indent: int | None = None) -> str:
    """Strict JSON: pure ASCII, numbers that are not finite become null."""
    return json.dumps(_finite(record), allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
