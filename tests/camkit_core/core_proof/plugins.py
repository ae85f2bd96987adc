"""Plugins that are modules made on the spot, sound and broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from camkit_core import Entry, hookimpl

REF = "core_proof.methods:HiRes"


def entry(name: str, kind: str = "target", **words: Any) -> Entry:
    """An entry whose reference can be resolved."""
    return Entry(kind=kind, name=name, **{"ref": REF, **words})


def module(name: str, **attributes: Any) -> ModuleType:
    """A module with these attributes; functions become hook implementations."""
    made = ModuleType(name)
    for key, value in attributes.items():
        is_hook = callable(value) and key.startswith("camkit_")
        setattr(made, key, hookimpl(value) if is_hook else value)
    return made


def offering(*entries: Entry, name: str = "made_plugin", **attributes: Any) -> ModuleType:
    """A plugin that offers these entries."""
    return module(name, camkit_entries=lambda: list(entries), **attributes)


def install(site: Path, distribution: str, points: dict[str, str], version: str = "1.2") -> None:
    """Metadata of an installed distribution with entry points of the group `camkit`."""
    folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    (folder / "METADATA").write_text(head)
    lines = [f"{name} = {value}" for name, value in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[camkit]", *lines, ""]))


PLUGIN = """
from camkit_core import Entry, hookimpl

@hookimpl
def camkit_entries():
    return [Entry(kind="target", name={name!r}, ref="json:loads")]
"""


def write_plugin(site: Path, module_name: str, offered: str) -> None:
    """A module with one sound entry."""
    (site / f"{module_name}.py").write_text(PLUGIN.format(name=offered))


@contextmanager
def on_path(site: Path) -> Iterator[None]:
    """Modules and metadata in `site` can be found; what was imported from there is forgotten."""
    before = set(sys.modules)
    sys.path.insert(0, str(site))
    try:
        yield
    finally:
        sys.path.remove(str(site))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if origin.startswith(str(site)):
                del sys.modules[name]


class Png:
    """A writer that notes what it was given."""

    name = "png"

    def __call__(self, explanation: Any, path: Path, /, **options: Any) -> None:
        path.write_text(f"{len(explanation)} maps, {options}")


class Sheet:
    """A renderer that draws words."""

    name = "sheet"

    def __call__(self, explanations: Any, /, **options: Any) -> str:
        return f"{len(explanations)} explanations, {options}"


class Grid(Sheet):
    """A renderer whose picture can be saved."""

    name = "grid"

    def __call__(self, explanations: Any, /, **options: Any) -> Any:
        return self

    def save(self, stream: Any, format: str) -> None:
        stream.write(format.encode())


class Halves:
    """A reshape with an option, as plugins offer them."""

    def __init__(self, keep: str = "1") -> None:
        self.keep = int(keep)

    def to_spatial(self, output: Tensor, /) -> Tensor:
        return output[:, : self.keep]

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        return torch.cat([maps, like[:, self.keep :]], 1)
