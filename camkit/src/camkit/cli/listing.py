"""What the listing commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from camkit.cli.terminal import Talk
    from camkit_core import Registry


def warn_of_problems(talk: Talk, registry: Registry) -> None:
    """One line per broken plugin: whoever misses something sees why."""
    for problem in registry.problems:
        talk.warn(f"plugin {problem}")
