"""`camkit plugins`: who brings what, and what is broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from camkit.cli.listing import warn_of_problems
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import PluginInfo, default_registry

if TYPE_CHECKING:
    from rich.table import Table

_TALK = Talk()
_STYLE = {"ok": "green", "blocked": "yellow", "broken": "bold red", "incompatible": "bold red"}


def plugins(*, talk: Talk = _TALK) -> int:
    """List the installed plugins: distribution, version, status, what they offer, import time."""
    talk = talk.listing()
    registry = default_registry()
    for plugin in registry.plugins:
        talk.emit(_record(plugin))
    talk.show(_table(registry.plugins))
    if not registry.plugins:
        talk.warn('no plugin is installed; pip install "camkit[all]" brings the first-party ones')
    warn_of_problems(talk, registry)
    return 0


def _record(plugin: PluginInfo) -> dict[str, Any]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "entry_point": plugin.entry_point,
        "module": plugin.module,
        "import_ms": round(plugin.import_ms, 1),
        "entries": [{"kind": entry.kind, "name": entry.name} for entry in plugin.entries],
        "problem": plugin.problem,
    }


def _table(found: tuple[PluginInfo, ...]) -> Table:
    names = ("distribution", "version", "status", "entry point", "offers", "ms")
    table = columns(*names, wrap=["offers"], right=["ms"])
    for plugin in found:
        table.add_row(
            cell(plugin.distribution, "bold"),
            cell(plugin.version),
            cell(plugin.status, _STYLE[plugin.status]),
            cell(plugin.entry_point),
            cell(_offers(plugin)),
            cell(f"{plugin.import_ms:.1f}"),
        )
    return table


def _offers(plugin: PluginInfo) -> str:
    counts = Counter(entry.kind for entry in plugin.entries)
    return ", ".join(f"{n} {_plural(kind, n)}" for kind, n in counts.items()) or "nothing"


def _plural(kind: str, count: int) -> str:
    if count == 1:
        return kind
    return "model families" if kind == "model family" else f"{kind}s"
