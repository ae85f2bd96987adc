"""`camkit cite`: the papers behind methods."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from camkit.cli.errors import OK
from camkit.cli.terminal import Talk
from camkit_core import Paper, default_registry

_TALK = Talk()


def cite(
    names: Annotated[list[str], Parameter(help="Methods to cite.", negative="", name="METHOD...")],
    /,
    *,
    talk: Talk = _TALK,
) -> int:
    """Print BibTeX entries for methods, on stdout, ready for a .bib file."""
    registry = default_registry()
    entries = [registry.find("method", name.partition(":")[0]) for name in names]
    seen: set[Paper] = set()
    for entry in entries:
        paper = entry.paper
        if paper is None:
            talk.warn(f"method {entry.name!r} has no paper")
        elif paper not in seen:
            seen.add(paper)
            bibtex = paper.bibtex(_key(paper, entry.name))
            talk.emit({"method": entry.name, "url": paper.url, "bibtex": bibtex})
            if not talk.json:
                sys.stdout.write(bibtex + "\n\n")
    return OK


def _key(paper: Paper, method: str) -> str:
    family = paper.authors[0].split(",")[0].lower()
    letters = "".join(char for char in family if char.isascii() and char.isalnum())
    return f"{letters or 'paper'}{paper.year}{method}"
