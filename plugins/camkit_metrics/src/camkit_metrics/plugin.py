"""Entry point of camkit-metrics; importing it imports no torch."""

from __future__ import annotations

from camkit_core import Entry, hookimpl


@hookimpl
def camkit_entries() -> list[Entry]:
    """Metrics of this package; version 0.1 offers none and holds the place of the family."""
    return []
