"""Finds installed plugins and checks one before it is let in."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import warnings
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy

from camkit_core.entries import API, Entry
from camkit_core.errors import PluginError
from camkit_core.hookspecs import PROJECT, HookSpecs

GROUP = "camkit"


def normalize(distribution: str) -> str:
    """Distribution name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


class Source:
    """One entry point, or one module handed in directly, before it is imported."""

    def __init__(self, distribution: str, version: str, name: str, value: str | ModuleType) -> None:
        self.distribution = normalize(distribution)
        self.version = version
        self.name = name
        self.value = value

    def load(self) -> Any:
        """The plugin: a module, or an attribute of one."""
        if not isinstance(self.value, str):
            return self.value
        module, _, attribute = self.value.partition(":")
        plugin = importlib.import_module(module)
        for part in filter(None, attribute.split(".")):
            plugin = getattr(plugin, part)
        return plugin


def installed() -> list[Source]:
    """Entry points of the group, one per (distribution, name), in a stable order."""
    found: dict[tuple[str, str], Source] = {}
    for point in metadata.entry_points(group=GROUP):
        dist = point.dist
        name = dist.name if dist else "unknown"
        source = Source(name, dist.version if dist else "0", point.name, point.value)
        found.setdefault((source.distribution, point.name), source)
    return [found[key] for key in sorted(found)]


def listed(variable: str) -> set[str] | None:
    """Distribution names in an environment variable, None if it is not set."""
    value = os.environ.get(variable)
    return None if value is None else {normalize(part) for part in value.split(",") if part.strip()}


class IncompatibleError(Exception):
    """The plugin was written for another level of the interface."""


def new_manager() -> pluggy.PluginManager:
    """A manager that knows camkit's hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


def checked_entries(plugin: Any, source: Source) -> tuple[Entry, ...]:
    """Entries of a plugin, after it proved itself on a manager of its own."""
    level = getattr(plugin, "CAMKIT_API", API)
    if level != API:
        raise IncompatibleError(f"written for plugin interface {level}, this camkit-core has {API}")
    scratch = new_manager()
    scratch.register(plugin)
    scratch.check_pending()
    entries: list[Entry] = []
    for offered in scratch.hook.camkit_entries():
        entries.extend(_stamped(offered, source))
    taken: set[tuple[str, str]] = set()
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if (entry.kind, name) in taken:
                raise PluginError(f"offers the {entry.kind} {name!r} twice")
            taken.add((entry.kind, name))
    return tuple(entries)


def admit(manager: pluggy.PluginManager, plugin: Any, source: Source) -> None:
    """Register a plugin that was checked; the scratch manager gave its warnings already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager.register(plugin, name=f"{source.distribution}/{source.name}")


def _stamped(offered: Any, source: Source) -> Iterator[Entry]:
    for entry in offered:
        if not isinstance(entry, Entry):
            raise PluginError(
                f"camkit_entries must return Entry objects, got {type(entry).__name__}"
            )
        yield dataclasses.replace(entry, distribution=source.distribution)


def contradictions(entry: Entry, found: Any) -> Iterator[tuple[str, Any]]:
    """What a method's class says differently from its entry."""
    if entry.kind != "method":
        return
    if getattr(found, "name", None) != entry.name:
        yield "name", entry.name
    needs = getattr(found, "needs", None)
    if needs is None or set(needs.words()) != set(entry.needs):
        yield "needs", entry.needs
