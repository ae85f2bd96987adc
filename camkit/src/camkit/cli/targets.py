"""`camkit targets`: what can be explained, and the words for it."""

from __future__ import annotations

from typing import Any

from camkit.cli.errors import OK
from camkit.cli.listing import warn_of_problems
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import Entry, default_registry

_TALK = Talk()

_OWN = {
    "name": "pred",
    "forms": ["pred", "topK"],
    "summary": "what the model says: its class, box or predicted region; the K best of them",
    "distribution": "camkit-core",
}
"""What needs no plugin."""


def targets(*, talk: Talk = _TALK) -> int:
    """List what can be explained (for --target and target=), and how to say it."""
    talk = talk.listing()
    registry = default_registry()
    records = [_OWN, *map(_record, registry.entries("target"))]
    table = columns("say", "what is explained", wrap=["say", "what is explained"])
    for record in records:
        talk.emit(record)
        table.add_row(cell(" | ".join(record["forms"]), "bold"), cell(record["summary"]))
    talk.show(table)
    talk.say("CLASS is an index, a name, a WordNet id, or pred; see docs/targets.md")
    warn_of_problems(talk, registry)
    return OK


def _record(entry: Entry) -> dict[str, Any]:
    """Summaries read `FORM | FORM: meaning`; one without forms belongs to its name."""
    forms, colon, meaning = entry.summary.partition(": ")
    return {
        "name": entry.name,
        "forms": forms.split(" | ") if colon else [entry.name],
        "summary": meaning if colon else entry.summary,
        "distribution": entry.distribution,
    }
