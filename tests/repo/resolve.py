"""Resolve every name that the installed plugins offer: `python resolve.py`, no arguments."""

from __future__ import annotations

import sys
from collections import Counter

from camkit_core import Registry


def main() -> int:
    """One line per kind; the first name that is unclear or leads nowhere raises."""
    registry = Registry(strict=True)
    for entry in registry.entries():
        for name in (entry.qualified, entry.name, *entry.aliases):
            registry.resolve(entry.kind, name)
    counts = Counter(entry.kind for entry in registry.entries())
    print(f"{len(registry.plugins)} plugins:", *(f"{n} {kind}," for kind, n in counts.items()))
    return 0 if counts else 1


if __name__ == "__main__":
    sys.exit(main())
