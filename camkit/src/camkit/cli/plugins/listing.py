"""`camkit plugins list`: who brings what, and what is broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from camkit.cli.errors import Usage
from camkit.cli.listing import warn_of_problems
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import PluginInfo, default_registry, near

if TYPE_CHECKING:
    from rich.table import Table

_TALK = Talk()
_STYLE = {"ok": "green", "blocked": "yellow", "broken": "bold red", "incompatible": "bold red"}


def list_or_usage(
    *words: Annotated[str, Parameter(show=False)],
    talk: Talk = _TALK,
) -> int:
    """List the installed plugins; check one, or start a new one."""
    if words:
        hint = near(words[0], ["list", "check", "new"]) or "; there are list, check and new"
        raise Usage(f"camkit plugins has no command {words[0]!r}{hint}")
    return list_plugins(talk=talk)


def list_plugins(*, talk: Talk = _TALK) -> int:
    """List the installed plugins: distribution, version, status, what they offer, import time."""
    talk = talk.listing()
    registry = default_registry()
    for plugin in registry.plugins:
        talk.emit(_record(plugin))
    talk.show(_table(registry.plugins))
    if not registry.plugins:
        talk.warn('no plugin is installed; pip install "camkit[all]" brings the first-party ones')
    for plugin in registry.plugins:
        if plugin.heavy:
            talk.warn(f"plugin {_slow(plugin)}")
    warn_of_problems(talk, registry)
    return 0


def _slow(plugin: PluginInfo) -> str:
    return (
        f"{plugin.distribution} {plugin.version} ({plugin.entry_point}) imports "
        f"{' and '.join(plugin.heavy)} to be listed: every camkit command waits "
        f"{plugin.import_ms:.0f} ms for it; a module of entries with lazy refs would not"
    )


def _record(plugin: PluginInfo) -> dict[str, Any]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "entry_point": plugin.entry_point,
        "module": plugin.module,
        "import_ms": round(plugin.import_ms, 1),
        "imports": plugin.heavy,
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
