"""Entry point of camkit-methods-perturbation; importing it imports no torch."""

from __future__ import annotations

from camkit_core import Entry, hookimpl


@hookimpl
def camkit_entries() -> list[Entry]:
    """Methods of this package; version 0.1 offers none and holds the place of the family."""
    return []
