"""The table and the cost curves as one picture."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Result

COLORS = {
    "camkit": "#1b6ca8",
    "grad-cam": "#c8553d",
    "torchcam": "#8f9e3c",
    "torchcam-shared": "#c3cc8f",
    "captum": "#8d6a9f",
}


def plot(results: Sequence[Result], path: Path, clock: str) -> None:
    """Draw all rows with times.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    timed = [r for r in results if _ratio(r, "camkit", clock)]
    rows, curves = [r for r in timed if not r.row.curve], _curves(timed)
    height = 1 + 0.62 * len(rows) + (3.2 if curves else 0)
    figure = pyplot.figure(figsize=(11, max(height, 3)), layout="constrained")
    parts = figure.subfigures(2 if rows and curves else 1, 1, squeeze=False)[:, 0]
    if rows:
        _bars(parts[0].subplots(), rows, clock)
    if curves:
        axes = parts[-1].subplots(1, len(curves), squeeze=False)[0]
        for ax, (axis, points) in zip(axes, curves.items(), strict=True):
            _line(ax, axis, points, clock)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _ratio(result: Result, name: str, clock: str) -> float | None:
    entrant = result.entrants.get(name)
    cost = entrant.ratio(clock) if entrant else None
    return cost.median if cost else None


def _curves(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.row.curve:
            found.setdefault(result.row.curve[0], []).append(result)
    return found


def _bars(ax: Any, rows: Sequence[Result], clock: str) -> None:
    step = 0.8 / len(COLORS)
    for place, (name, color) in enumerate(COLORS.items()):
        known = [(y, _ratio(result, name, clock)) for y, result in enumerate(rows)]
        points = [(y + (place - 2) * step, cost) for y, cost in known if cost is not None]
        if points:
            ys, costs = zip(*points, strict=True)
            ax.barh(ys, costs, step, color=color, label=name)
            for y, cost in points:
                ax.text(cost * 1.03, y, f"{cost:.3g}", va="center", fontsize=6)
    for y, result in enumerate(rows):
        if result.row.goal is not None:
            label = "goal" if y == 0 else None
            ax.plot([result.row.goal] * 2, [y - 0.45, y + 0.45], color="black", lw=1.2, label=label)
    ax.set_xscale("log")
    ax.set_yticks(range(len(rows)), [result.row.title for result in rows], fontsize=8)
    ax.invert_yaxis()
    ax.axvline(1, color="gray", lw=0.8, ls=":")
    ax.set_xlabel("cost in plain forward passes (log scale)")
    ax.legend(fontsize=8, loc="lower right")


def _line(ax: Any, axis: str, points: Sequence[Result], clock: str) -> None:
    for name, color in COLORS.items():
        known = [(p.row.curve, _ratio(p, name, clock)) for p in points]
        drawn = [(where[1], cost) for where, cost in known if where and cost is not None]
        if drawn:
            ax.plot(*zip(*drawn, strict=True), marker="o", ms=3, color=color, label=name)
    ax.set_yscale("log")
    ax.set_xlabel(axis)
    ax.set_ylabel("plain forwards")
    ax.legend(fontsize=7)
