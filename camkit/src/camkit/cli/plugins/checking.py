"""`camkit plugins check`: the conformance suite on what a plugin offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from camkit.cli.errors import OK, UNEXPECTED
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import default_registry

if TYPE_CHECKING:
    from rich.table import Table

    from camkit_core.testing import Report

_TALK = Talk()
_STYLE = {
    "passed": "green",
    "failed": "bold red",
    "expected": "yellow",
    "not applicable": "bright_black",
}


def check(
    name: Annotated[str, Parameter(help="A distribution, or one thing: NAME[:option=value,...].")],
    /,
    *,
    full: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    talk: Talk = _TALK,
) -> int:
    """Run the conformance checks on a plugin, or on one method, target, reshape or metric.

    Args:
        full: The slow checks too: many shapes, threads, memory, half precision.
    """
    from camkit.cli.plugins.subjects import reports

    talk = talk.listing()
    found = []
    for report in reports(name, default_registry(), "full" if full else "fast"):
        talk.emit(report.as_dict())
        _show(talk, report)
        found.append(report)
    bad = [report for report in found if not report.ok]
    talk.say(_verdict(found, bad), "bold red" if bad else "green")
    return UNEXPECTED if bad else OK


def _show(talk: Talk, report: Report) -> None:
    """The table, then what there is to say of single checks, which may be long."""
    talk.show(_table(report))
    for row in report.rows:
        if row.message:
            talk.say(f"    {row.check}: {row.message}", _STYLE[row.status])


def _table(report: Report) -> Table:
    table = columns(f"{report.kind} {report.name}", "", "ms", right=["ms"])
    for row in report.rows:
        milliseconds = f"{1000 * row.seconds:.0f}"
        table.add_row(
            cell(f"  {row.check}"), cell(row.status, _STYLE[row.status]), cell(milliseconds)
        )
    return table


def _verdict(found: list[Report], bad: list[Report]) -> str:
    rows = sum(len(report.rows) for report in found)
    seconds = sum(report.seconds for report in found)
    if bad:
        names = ", ".join(f"{report.kind} {report.name}" for report in bad)
        failed = sum(len(report.failed) for report in bad)
        return f"{failed} of {rows} checks failed, in {names} ({seconds:.1f} s)"
    return f"conforms: {rows} checks in {seconds:.1f} s"
