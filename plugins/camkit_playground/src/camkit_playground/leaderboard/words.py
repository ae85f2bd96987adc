"""The leaderboard as a table for people, as Markdown and as JSON."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from camkit_playground.leaderboard.board import BASELINE, Cell, Leaderboard, Row
from camkit_playground.leaderboard.hans import OBJECT, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table
    from rich.text import Text

BETTER = "*"
"""Marks a cell that is better than the baseline, where there are no colors."""
_DIGITS = 6


def table(board: Leaderboard) -> Table:
    """For a terminal of 80 columns or more: `.812±.02`, half the width of the interval.

    A cell is colored, and starred, only if it is better than the center control.
    """
    from rich.table import Table

    found = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title(board))
    found.title_justify = found.caption_justify = "left"
    found.title_style, found.caption_style = "bold", "dim"
    found.add_column("method")
    for name in board.metrics:
        found.add_column(_broken(name), justify="right", no_wrap=True)
    for kind, rows in groupby(board.rows, key=lambda row: row.kind):
        if kind == "control":
            found.add_row("controls:", style="dim")
        for row in rows:
            cells = [_text(row.cells.get(name)) for name in board.metrics]
            found.add_row(row.name, *cells, style="dim" if kind == "control" else "")
    found.caption = footnote(board)
    return found


def reasons_table(reasons: Sequence[Reason]) -> Table:
    """What the twins answer, where their maps lie, and what they answer when either is gone."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column("network")
    heart = OBJECT.split()[-1]
    for head in (
        f"says\n{heart}",
        f"map on\n{heart}",
        "map on\ntag",
        f"tag removed,\nsays {heart}",
        f"{heart} removed,\nsays {heart}",
    ):
        found.add_column(head, justify="right", no_wrap=True)
    for one in reasons:
        answers = [f"{100 * value:.0f} %" for value in (one.answer, one.no_tag, one.no_object)]
        shares = [
            f"{100 * share.mean:.0f}±{50 * (share.high - share.low):.0f} %"
            for share in (one.on_object, one.on_tag)
        ]
        found.add_row(one.model, answers[0], *shares, *answers[1:])
    return found


def title(board: Leaderboard) -> str:
    """What was judged."""
    return (
        f"{board.model} at {', '.join(board.layers)}: {board.scenes} Duo scenes, each asked for "
        f"both of its objects, and {board.mosaics} mosaics of four"
    )


def footnote(board: Leaderboard) -> str:
    """How to read the numbers."""
    lines = [
        f"± half the {100 * board.level:.0f} % bootstrap interval over pictures; "
        f"{BETTER} better than the {BASELINE} control on the same pictures, by the interval of the "
        "difference. No total rank: every column asks something else."
    ]
    lines += [f"{name} is left out: {why}" for name, why in board.left_out.items()]
    empty = _undefined(board)
    if empty:
        lines.append(f"Maps that are undefined (empty, say) are left out: {empty}.")
    return "\n".join(lines)


def markdown(board: Leaderboard) -> str:
    """A Markdown document with full intervals."""
    names = list(board.metrics)
    lines = [
        f"# {title(board)}",
        "",
        f"Mean and {100 * board.level:.0f} % bootstrap interval over pictures. Bold: better than "
        f"the {BASELINE} control on the same pictures, by the interval of the difference. There is "
        "no total rank: every column asks something else.",
        "",
        f"| | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
        *(_line(row, names) for row in board.rows),
        "",
        *(
            f"- **{name}** (on {board.judged_on[name]}): {summary}"
            for name, summary in board.metrics.items()
        ),
        *(f"- {name} is left out: {why}" for name, why in board.left_out.items()),
    ]
    empty = _undefined(board)
    if empty:
        lines += ["", f"Maps that are undefined (empty, say) are left out: {empty}."]
    return "\n".join(lines) + "\n"


def record(board: Leaderboard) -> dict[str, Any]:
    """Plain containers for JSON, numbers to six digits; what is undefined is None."""
    return {
        "model": board.model,
        "layers": list(board.layers),
        "seed": board.seed,
        "scenes": board.scenes,
        "mosaics": board.mosaics,
        "level": board.level,
        "baseline": BASELINE,
        "metrics": {
            name: {"summary": summary, "judged_on": board.judged_on[name]}
            for name, summary in board.metrics.items()
        },
        "left_out": dict(board.left_out),
        "rows": [
            {
                "name": row.name,
                "kind": row.kind,
                "values": {name: _record(cell) for name, cell in row.cells.items()},
            }
            for row in board.rows
        ],
    }


def _record(cell: Cell) -> dict[str, Any]:
    interval = cell.interval
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {
        **{key: _rounded(value) for key, value in numbers.items()},
        "pictures": interval.count,
        "maps": cell.maps,
        "undefined_maps": cell.undefined,
        "better_than_baseline": cell.better,
    }


def _rounded(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def _broken(name: str) -> str:
    """Long names on two lines, so that eighty columns are enough."""
    return name.replace("rank", "rank-\n") if len(name) > 10 else name


def _text(cell: Cell | None) -> Text:
    from rich.text import Text

    if cell is None or not cell.interval.count:
        return Text("-  ", style="dim")
    half = (cell.interval.high - cell.interval.low) / 2
    words = f"{_short(cell.interval.mean, 3)}±{_short(half, 2)}"
    return Text(f"{words}{BETTER}", style="green") if cell.better else Text(f"{words} ")


def _short(value: float, digits: int) -> str:
    """`.812`, `1.00`: as many characters for 1 as for less."""
    shown = f"{value:.{digits}f}"
    return shown.removeprefix("0") if shown.startswith("0") else f"{value:.{digits - 1}f}"


def _line(row: Row, names: list[str]) -> str:
    cells = [_full(row.cells.get(name)) for name in names]
    return f"| {row.name if row.kind == 'method' else f'*{row.name}*'} | {' | '.join(cells)} |"


def _full(cell: Cell | None) -> str:
    if cell is None or not cell.interval.count:
        return ""
    mean, _, bounds = str(cell.interval).partition(" ")
    return f"**{mean}** {bounds}" if cell.better else f"{mean} {bounds}"


def _undefined(board: Leaderboard) -> str:
    """`of 200 on scenes layercam 3, fem 1`, by the metric that misses most."""
    worst: dict[tuple[str, int], dict[str, int]] = {}
    for row in board.rows:
        for name, cell in row.cells.items():
            counts = worst.setdefault((board.judged_on[name], cell.maps), {})
            counts[row.name] = max(cell.undefined, counts.get(row.name, 0))
    parts = []
    for (pictures, maps), counts in worst.items():
        missing = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        parts += [f"of {maps} on {pictures} {missing}"] if missing else []
    return "; ".join(parts)
