"""File names from anything: paths, method specs and class names people and data sets make up."""

from __future__ import annotations

import re
import unicodedata

_KEPT = re.compile(r"[^A-Za-z0-9.=+-]+")
_LIMIT = 60


def slug(text: str, fallback: str = "unnamed") -> str:
    """`text` in the characters every file system takes, at most 60, never hidden, never empty."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    kept = _KEPT.sub("-", ascii_only.replace("..", "-"))
    return kept.strip(".-=+")[:_LIMIT].strip(".-=+") or fallback


class Names:
    """Hands out file names (without suffix) that differ even where case does not count."""

    def __init__(self) -> None:
        """No name is taken yet."""
        self._taken: set[str] = set()

    def take(self, *parts: str) -> str:
        """The slugs of `parts` joined by `__`, numbered if that name is taken."""
        wanted = "__".join(slug(part) for part in parts)
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name
