"""What a person reads at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from camkit.cli.terminal import Talk

SHOWN = 10
"""Photos that are described one by one; the rest is counted."""

RANDOM = "weights are random: the pictures show the mechanics, not knowledge"


class Summary:
    """Collects while the run goes on and speaks once at the end."""

    def __init__(self, talk: Talk, out: Path) -> None:
        """Nothing happened yet."""
        self._talk, self._out = talk, out
        self._lines: list[str] = []
        self._warnings: dict[str, int] = {}
        self.photos, self.files, self.failures = 0, 0, 0

    def photo(self, path: Path, rows: Sequence[Mapping[str, Any]], other: str = "") -> None:
        """A photo was explained; `other` is what the model said of it, if not class scores."""
        self.photos += 1
        self.files += sum(len(row["files"]) for row in rows)
        for row in rows:
            for issue in row["issues"]:
                self._warn(f"{path.name}: {row['method']} of {row['label']}: {issue['message']}")
        if self.photos <= SHOWN or self._talk.verbose:
            self._lines += _describe(path, rows, self._out, other)

    def failed(self, record: Mapping[str, Any]) -> None:
        """A photo could not be explained."""
        self.failures += 1
        self._warn(f"failed: {record['message']}")

    def speak(self, *, notes: Sequence[str], random: bool) -> None:
        """Say everything."""
        for line in self._lines:
            self._talk.say(line)
        hidden = 0 if self._talk.verbose else self.photos - SHOWN
        if hidden > 0:
            self._talk.say(f"... and {hidden} more photos, see {self._out / 'results.jsonl'}")
        for note in notes:
            if not (random and note.startswith("weights are random")):
                self._talk.say(f"note: {note}")
        for text, times in list(self._warnings.items())[: None if self._talk.verbose else SHOWN]:
            self._talk.warn(text + (f" ({times} times)" if times > 1 else ""))
        left = 0 if self._talk.verbose else len(self._warnings) - SHOWN
        if left > 0:
            self._talk.warn(f"... and {left} more, see {self._out}")
        if random:
            self._talk.warn(RANDOM)
        failed = f", {self.failures} failed (see failures.jsonl)" if self.failures else ""
        photos = "1 photo" if self.photos == 1 else f"{self.photos} photos"
        self._talk.say(f"{photos} explained{failed}; everything is in {self._out}")

    def _warn(self, text: str) -> None:
        self._warnings[text] = self._warnings.get(text, 0) + 1


def _describe(path: Path, rows: Sequence[Mapping[str, Any]], out: Path, other: str) -> list[str]:
    said = " · ".join(
        f"{p['name']} {_percent(p['probability'])}" for p in rows[0]["predictions"][:3]
    )
    lines = [str(path), f"  the model says   {said or other}"]
    shown: set[str] = set()
    for (label, word, where), same in _grouped(rows).items():
        asked = "" if word == label else f" ({word})"
        names = ", ".join(row["method"] for row in same)
        lines.append(f"  explained        {label}{asked} at {where} by {names}")
        pictures = [row["files"]["png"] for row in same if "png" in row["files"]]
        new = [name for name in dict.fromkeys(pictures) if name not in shown]
        shown.update(new)
        lines += [f"                   {out / name}" for name in new]
    return lines


def _grouped(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    """Rows of one target at the same place."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["label"], row["target"], ", ".join(row["layers"]))
        groups.setdefault(key, []).append(row)
    return groups


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
