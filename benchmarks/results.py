"""Measured rows: what is written to JSON, and what passes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from benchmarks.timing import Ratio

SCHEMA = 1
UNDECIDED = 0.03
"""A median that may be wrong by more than this part of itself decides nothing."""


@dataclass
class Entrant:
    """One contender on one row.

    Attributes:
        wall: cost in plain forwards by the clock on the wall.
        cpu: the same by processor time of the process (CPU only).
        seconds: median time of the whole work.
        forwards: passes through the model.
        rows: images in them.
        backwards: passes of the autograd engine.
        memory: peak in MiB above the plain forward's.
        differences: largest difference of its display maps from camkit's, per method.
        methods: those of the row it has; only they were timed.
        factor: by what the timed sample was multiplied.
        note: why it did not take part.
    """

    wall: Ratio | None = None
    cpu: Ratio | None = None
    seconds: float | None = None
    forwards: int | None = None
    rows: int | None = None
    backwards: int | None = None
    memory: float | None = None
    differences: dict[str, float] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    factor: float = 1.0
    note: str = ""

    def ratio(self, clock: str) -> Ratio | None:
        """Cost by one of the clocks."""
        return self.cpu if clock == "cpu" else self.wall


@dataclass
class Result:
    """One row of the table.

    Attributes:
        forward: of the unit: median seconds, peak MiB.
        entrants: contenders by name.
        verdict: of the time: "met", "within limit", "missed", "undecided" (the median is too
            uncertain) or "" (no goal).
        memory_verdict: of the peak memory.
        error: why there are no figures.
        load: of the machine when the row was done.
        commit: of the checkout it was measured in.
    """

    row: Row
    forward: dict[str, float | None] = field(default_factory=dict)
    entrants: dict[str, Entrant] = field(default_factory=dict)
    verdict: str = ""
    memory_verdict: str = ""
    error: str = ""
    load: float | None = None
    commit: str | None = None

    @property
    def ok(self) -> bool:
        """Nothing missed its limit and nothing broke."""
        return not self.error and "missed" not in (self.verdict, self.memory_verdict)

    def judge(self, clock: str) -> None:
        """Fill in the verdicts from camkit's figures."""
        ours = self.entrants.get("camkit")
        if ours is None:
            return
        cost = ours.ratio(clock)
        if cost is not None:
            said = verdict(cost.median, self.row.goal, self.row.limit)
            self.verdict = "undecided" if said and cost.uncertainty > UNDECIDED else said
        if ours.memory is not None:
            self.memory_verdict = verdict(ours.memory, self.row.memory_goal)


def verdict(value: float, goal: float | None, limit: float | None = None) -> str:
    """How a figure compares with what was aimed at, and with what must hold."""
    if goal is None:
        return ""
    if value <= goal:
        return "met"
    return "within limit" if limit is not None and value <= limit else "missed"


def document(
    results: list[Result],
    environment: dict[str, Any],
    settings: dict[str, Any],
    startup: dict[str, Any] | None,
) -> dict[str, Any]:
    """Everything of one run, ready for JSON."""
    return {
        "schema": SCHEMA,
        "unit": "one plain forward pass of the same model, input and batch under inference_mode",
        "settings": settings,
        "environment": environment,
        "rows": [asdict(result) for result in results],
        "startup": startup,
    }


def updated(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """New rows in place of those of the same name in a file; its other rows stay."""
    old = json.loads(path.read_text("utf-8"))
    fresh = {result["row"]["name"]: result for result in content["rows"]}
    kept = [fresh.pop(result["row"]["name"], result) for result in old["rows"]]
    commands = [*old["settings"]["commands"], *content["settings"]["commands"]]
    return content | {
        "rows": [*kept, *fresh.values()],
        "settings": content["settings"] | {"commands": list(dict.fromkeys(commands))},
        "startup": content["startup"] or old["startup"],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_rounded(content), indent=1) + "\n", "utf-8")
    part.replace(path)


def read(path: Path) -> list[Result]:
    """The rows of a file that `write` made.

    Raises:
        ValueError: another schema.
    """
    content = json.loads(path.read_text("utf-8"))
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{path.name} has schema {content.get('schema')}, expected {SCHEMA}")
    return [_result(row) for row in content["rows"]]


def _result(content: dict[str, Any]) -> Result:
    row = content["row"] | {
        name: tuple(content["row"][name]) for name in ("methods", "measures", "contenders")
    }
    if row["curve"]:
        row["curve"] = tuple(row["curve"])
    entrants = {name: _entrant(entrant) for name, entrant in content["entrants"].items()}
    return Result(**(content | {"row": Row(**row), "entrants": entrants}))


def _entrant(content: dict[str, Any]) -> Entrant:
    clocks = {name: Ratio(**content[name]) if content[name] else None for name in ("wall", "cpu")}
    return Entrant(**(content | clocks))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(child) for child in value]
    return value
