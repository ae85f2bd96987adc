"""The table, readable in a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.results import Entrant, Result
from benchmarks.timing import Ratio

PEERS = ("grad-cam", "torchcam", "torchcam-shared", "captum")
HEAD = ("work", "goal", "camkit", "spread", "best", "verdict", *PEERS, "F/B", "memory", "off")


def table(results: Sequence[Result], clock: str) -> str:
    """One line per row; all times in plain forwards."""
    rows = [HEAD, *(_cells(result, clock) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def legend(clock: str) -> str:
    """What the columns mean."""
    what = "processor time of the process" if clock == "cpu" else "wall time"
    return (
        f"Times are {what} in plain forwards, median over interleaved rounds; spread = quartiles, "
        "best = fastest call over fastest forward, ~ = a sample of the targets, multiplied, "
        "(n/m) = the peer has n of the m methods; F/B = camkit's forwards and backwards; memory = "
        "camkit's peak above the forward's in MiB (grad-cam's behind the slash); off = largest "
        "difference of display maps from grad-cam's."
    )


def startup_line(found: dict[str, Any]) -> str:
    """The import cost in one line."""
    seconds = found["seconds"]
    return (
        f"`{found['code']}` over a bare interpreter: {seconds['median']:.3f} s "
        f"({seconds['low']:.3f} to {seconds['high']:.3f}), goal {found['goal']} s: "
        f"{'met' if found['met'] else 'missed'}; heavy libraries loaded: {found['loaded']}"
    )


def _cells(result: Result, clock: str) -> tuple[str, ...]:
    row, ours = result.row, result.entrants.get("camkit", Entrant())
    cost = ours.ratio(clock)
    peers = [_peer(result.entrants.get(name), len(row.methods), clock) for name in PEERS]
    return (
        row.title,
        _goal(result),
        _times(cost),
        f"{cost.low:.3f}-{cost.high:.3f}" if cost else "",
        f"{cost.best:.3f}" if cost else "",
        result.error or _verdicts(result, cost),
        *peers,
        "" if ours.forwards is None else f"{ours.forwards}/{ours.backwards}",
        _memory(result, ours),
        _off(result),
    )


def _goal(result: Result) -> str:
    row = result.row
    parts = [f"{row.goal}x"] if row.goal is not None else []
    if row.limit is not None:
        parts.append(f"must {row.limit}x")
    if row.memory_goal is not None:
        parts.append(f"+{row.memory_goal:g} MiB")
    return ", ".join(parts)


def _verdicts(result: Result, cost: Ratio | None) -> str:
    said = result.verdict
    if said == "missed" and cost is not None and result.row.goal is not None:
        said += f" by {100 * (cost.median / result.row.goal - 1):.1f} %"
    return said or result.memory_verdict


def _times(cost: Ratio | None) -> str:
    if cost is None:
        return ""
    return f"{cost.median:.3f}x" if cost.median < 10 else f"{cost.median:.1f}x"


def _peer(entrant: Entrant | None, methods: int, clock: str) -> str:
    if entrant is None or entrant.ratio(clock) is None:
        return "-"
    cost = entrant.ratio(clock)
    assert cost is not None
    some = f" ({len(entrant.methods)}/{methods})" if len(entrant.methods) < methods else ""
    return f"{'~' if entrant.factor != 1 else ''}{cost.median:.3g}x{some}"


def _memory(result: Result, ours: Entrant) -> str:
    if ours.memory is None:
        return ""
    theirs = result.entrants.get("grad-cam", Entrant()).memory
    return f"{ours.memory:+.1f}" + ("" if theirs is None else f" / {theirs:+.0f}")


def _off(result: Result) -> str:
    found = result.entrants.get("grad-cam", Entrant()).differences
    return f"{max(found.values()):.0e}" if found else ""
