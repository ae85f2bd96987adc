"""What `camkit plugins check` checks, and with which suite."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from camkit_core import CamkitError, OptionError, UnknownNameError, method_of, near, parse_spec
from camkit_core.testing import (
    Report,
    Row,
    check_control,
    check_method,
    check_metric,
    check_reshape,
    check_target,
)

if TYPE_CHECKING:
    from camkit_core import Entry, PluginInfo, Registry

_SUITES: dict[str, Callable[..., Report]] = {
    "method": check_method,
    "target": check_target,
    "reshape": check_reshape,
    "metric": check_metric,
    "control": check_control,
}
_SUMMARY = 100


def reports(name: str, registry: Registry, tier: str) -> Iterator[Report]:
    """One report per plugin and per thing it offers, each as soon as it is ready.

    Raises:
        UnknownNameError: no distribution and no entry is called so.
    """
    plugins = _plugins(name, registry)
    for plugin in plugins:
        yield _of_plugin(plugin)
    wanted = [(entry, dict[str, str]()) for plugin in plugins for entry in plugin.entries]
    for entry, options in wanted if plugins else _entries(name, registry):
        yield _of_entry(entry, options, registry, tier)


def _plugins(name: str, registry: Registry) -> list[PluginInfo]:
    plain = name.lower().replace("_", "-")
    return [p for p in registry.plugins if p.distribution in (plain, f"camkit-{plain}")]


def _entries(name: str, registry: Registry) -> list[tuple[Entry, dict[str, str]]]:
    short, options = parse_spec(name)
    found = [registry.find(kind, short) for kind in _SUITES if registry.has(kind, short)]
    if not found:
        known = [p.distribution for p in registry.plugins]
        known += [entry.name for kind in _SUITES for entry in registry.entries(kind)]
        problems = "; ".join(map(str, registry.problems))
        raise UnknownNameError(
            f"no plugin and nothing that can be checked is called {short!r}"
            f"{near(short, known)}{f' (plugin problems: {problems})' if problems else ''}"
        )
    return [(entry, options) for entry in found]


def _of_plugin(plugin: PluginInfo) -> Report:
    name = f"{plugin.distribution} {plugin.version} ({plugin.entry_point})"
    failed = plugin.status != "ok"
    rows = [Row("loads", "failed" if failed else "passed", plugin.problem, plugin.import_ms / 1000)]
    if not failed:
        slow = f"imports {' and '.join(plugin.heavy)}: every listing waits for it"
        rows.append(Row("is_light", "passed", slow if plugin.heavy else "", 0.0))
        rows.append(_offers(plugin))
    return Report(name, "plugin", tuple(rows))


def _offers(plugin: PluginInfo) -> Row:
    """Without entries, a plugin must implement a hook at least."""
    module = sys.modules.get(plugin.module)
    hooks = {name for name, one in vars(module or object).items() if hasattr(one, "camkit_impl")}
    if plugin.entries or hooks - {"camkit_entries"}:
        return Row("offers", "passed", "", 0.0)
    why = "camkit_entries returns none" if hooks else "no hook was found; is @hookimpl missing?"
    return Row("offers", "failed", f"it offers nothing: {why}", 0.0)


def _of_entry(entry: Entry, options: dict[str, str], registry: Registry, tier: str) -> Report:
    started = time.perf_counter()
    try:
        thing = registry.resolve(entry.kind, entry.qualified)
        message = "; ".join(_disagreements(entry, thing))
        made = _made(entry, options, registry, thing) if entry.kind in _SUITES else None
    except CamkitError as error:
        made, message = None, str(error)
    seconds = time.perf_counter() - started
    rows: tuple[Row, ...] = (Row("entry", "failed" if message else "passed", message, seconds),)
    if made is not None:
        rows += _SUITES[entry.kind](made, tier=tier, on_fail="report").rows
    return Report(entry.name, entry.kind, rows)


def _made(entry: Entry, options: dict[str, str], registry: Registry, thing: Any) -> Any:
    """An instance with these options, the others at their defaults.

    Raises:
        OptionError: an option is wrong, or one without default is missing.
    """
    if entry.kind == "method":
        return method_of(entry.qualified, registry, options)
    if entry.kind == "target" and not options and hasattr(thing, "example"):
        return thing
    try:
        return thing(**options)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"{entry.kind} {entry.name} could not be made: {error}; say its options as "
            f"camkit plugins check '{entry.name}:option=value'"
        ) from error


def _disagreements(entry: Entry, thing: Any) -> Iterator[str]:
    """What a listing shows and should not."""
    if not entry.summary.strip() or "\n" in entry.summary or len(entry.summary) > _SUMMARY:
        yield f"its summary must be one line of at most {_SUMMARY} characters"
    if entry.kind != "method":
        return
    for field in ("runs", "class_discriminative"):
        said, is_ = getattr(entry, field), getattr(thing, field, None)
        if said != is_:
            yield f"its entry says {field}={said!r}, its class {is_!r}"
