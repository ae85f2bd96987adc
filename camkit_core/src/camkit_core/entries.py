"""What plugins hand to the registry, and what the registry says of them.

Standard-library dataclasses only: listings must not import torch, numpy or pydantic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from camkit_core.errors import PluginError

if TYPE_CHECKING:
    from camkit_core.method import MethodModel

API = 1
"""Level of the plugin interface; a plugin may declare `CAMKIT_API` and is refused on mismatch."""

KINDS = (
    *("method", "target", "reshape", "metric", "control"),
    *("renderer", "writer", "command", "model family"),
)

Status = Literal["ok", "blocked", "broken", "incompatible"]

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A publication: enough for a reference line and a BibTeX entry."""

    title: str
    authors: tuple[str, ...]  # "Family, Given"
    year: int
    venue: str = ""
    doi: str = ""
    arxiv: str = ""

    @property
    def url(self) -> str:
        """Link to the paper, empty if neither DOI nor arXiv id is known."""
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    @property
    def short(self) -> str:
        """`Family et al., venue year`."""
        family = self.authors[0].split(",")[0]
        others = " et al." if len(self.authors) > 1 else ""
        return f"{family}{others}, {self.venue or 'preprint'} {self.year}"

    def bibtex(self, key: str) -> str:
        """BibTeX entry under `key`."""
        fields = {
            "title": "{" + self.title + "}",
            "author": " and ".join(self.authors),
            "year": str(self.year),
            "booktitle" if self.venue else "note": self.venue or "preprint",
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@inproceedings{{{key},", *lines, "}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing a plugin offers, named and located but not imported.

    `ref` is `"package.module:Attribute"`; everything else is what listings show.
    """

    kind: str
    name: str
    ref: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    runs: str = ""  # cost, e.g. "1F + 1B"
    class_discriminative: bool | None = None
    paper: Paper | None = None
    suffixes: tuple[str, ...] = ()  # writers: file suffixes
    distribution: str = ""  # filled by the registry

    def __post_init__(self) -> None:
        """Refuse names and references that could not be looked up."""
        for name in (self.name, *self.aliases):
            if not _NAME.match(name):
                raise PluginError(f"entry name {name!r} must match {_NAME.pattern}")
        module, _, attribute = self.ref.partition(":")
        if not module or not attribute:
            raise PluginError(f"entry {self.name!r}: ref {self.ref!r} must read 'module:attribute'")

    @property
    def qualified(self) -> str:
        """`distribution/name`, which is never ambiguous."""
        return f"{self.distribution}/{self.name}"

    @classmethod
    def of(cls, method: type[MethodModel], *, aliases: tuple[str, ...] = ()) -> Entry:
        """Entry of a method class, read from its own declarations.

        For plugins of one module. A package that wants fast listings writes `Entry(...)` with a
        lazy `ref` in a module that does not import torch.
        """
        return cls(
            kind="method",
            name=method.name,
            ref=f"{method.__module__}:{method.__qualname__}",
            summary=(method.__doc__ or "").strip().splitlines()[0] if method.__doc__ else "",
            aliases=aliases,
            needs=method.needs.words(),
            runs=method.runs,
            class_discriminative=method.class_discriminative,
            paper=method.paper,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a plugin, or one of its entries, is not available."""

    distribution: str
    version: str
    entry_point: str
    message: str
    error: BaseException | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """One line for listings and failed lookups."""
        return f"{self.distribution} {self.version} ({self.entry_point}): {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One installed plugin: where it comes from, whether it works, what it offers."""

    distribution: str
    version: str
    entry_point: str
    module: str
    status: Status
    import_ms: float
    heavy: tuple[str, ...] = ()  # libraries that its import loaded: listings should not need them
    entries: tuple[Entry, ...] = ()
    problem: str = ""
