"""What this package offers. Imports neither torch nor numpy nor Pillow: listings read it."""

from __future__ import annotations

from camkit_core import Entry, hookimpl


@hookimpl
def camkit_entries() -> list[Entry]:
    """One command."""
    return [
        Entry(
            kind="command",
            name="demo",
            ref="camkit_playground.command:demo",
            summary="Explain a cat photo by several methods; nothing is downloaded.",
        )
    ]
