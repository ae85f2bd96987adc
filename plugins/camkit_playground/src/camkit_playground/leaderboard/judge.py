"""Explains, judges, and keeps what belongs to one picture together.

The two objects of a scene share its background, its noise and the network's state of mind, so
their values are not independent. They are averaged first, and pictures are resampled, not maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from camkit_core import (
    CapabilityError,
    Control,
    Entry,
    Evidence,
    Explainer,
    Explanation,
    InputError,
    LoadedModel,
    Metric,
    ModelError,
    Registry,
    mean_interval,
)
from camkit_playground.duo import CLASS_NAMES, mosaic, scenes
from camkit_playground.leaderboard.board import BASELINE, Cell, Kind, Leaderboard, Row
from camkit_playground.leaderboard.questions import Questions, questions

Progress = Callable[[int, int], None]
Key = tuple[Kind, str]
"""Kind and name of a row."""
Values = dict[Key, dict[str, Tensor]]
"""Row -> metric -> values `[N, T]` of N pictures with T objects."""

LEVEL = 0.95
_STRIDE = 10_000  # seeds of pictures that belong to one seed of the leaderboard
_ROUNDING = 1e-6  # maps are float32: two methods at chance differ by less
_CHUNK = 16  # pictures per call: bounds memory, and shows progress
_PRIMARY = ("energy", "contrast", "gridpg")  # the first columns; the others follow by name
_LADDER = ("random", "center", "sobel")  # controls from luck to the oracle
_LAST = ("oracle",)


def leaderboard(
    registry: Registry,
    loaded: LoadedModel,
    methods: Sequence[str],
    *,
    count: int = 24,
    seed: int = 0,
    layers: Any = None,
    progress: Progress | None = None,
) -> Leaderboard:
    """Explain Duo pictures by several methods and judge them, and all controls, by all metrics.

    Args:
        registry: where methods, metrics and controls come from.
        loaded: a network for Duo pictures.
        methods: names or spec strings.
        count: how many scenes (two objects each), and how many mosaics (four cells each).
        seed: which pictures; random methods and controls and the intervals follow from it too.
        layers: as in `camkit_core.explain`.
        progress: called with (pictures done, pictures in all).

    Raises:
        UnknownNameError: no metric is installed; the message says what to do.
        InputError: `count` is out of range.
        ModelError: the network does not answer for Duo's classes.
    """
    check(loaded, count)
    panel = _Panel.of(registry, Explainer(loaded, layers, registry=registry), methods, seed)
    seeds = range(seed * _STRIDE, seed * _STRIDE + count)
    asked = {
        "scenes": questions(scenes(seeds)),
        "mosaics": questions([mosaic(one) for one in seeds]),
    }
    judged_on, left_out = panel.fitting(asked)
    values, layers_used = panel.judge(asked, judged_on, progress)
    return Leaderboard(
        model=loaded.spec,
        layers=layers_used,
        seed=seed,
        scenes=count,
        mosaics=count,
        level=LEVEL,
        metrics={name: panel.summaries[name] for name in judged_on},
        judged_on=judged_on,
        left_out=left_out,
        rows=tuple(_rows(values, panel.metrics, seed)),
    )


def check(loaded: LoadedModel, count: int) -> None:
    """Refuse what could not be judged, before any work.

    Raises:
        InputError: `count` is out of range.
        ModelError: the network does not answer for Duo's classes.
    """
    if not 1 <= count <= _STRIDE:
        raise InputError(f"a leaderboard of {count} scenes: ask for 1 to {_STRIDE}")
    if loaded.class_names != CLASS_NAMES:
        raise ModelError(
            f"the model {loaded.spec} has not the {len(CLASS_NAMES)} classes of Duo, so nothing is "
            "known about its right explanations; use demo:cnn, demo:hans or demo:vit"
        )


@dataclass(frozen=True)
class _Panel:
    """Who explains and who judges."""

    explainer: Explainer
    methods: Sequence[str]
    metrics: Mapping[str, Metric]
    summaries: Mapping[str, str]  # of the metrics
    controls: Mapping[str, Control]
    seed: int

    @classmethod
    def of(
        cls, registry: Registry, explainer: Explainer, methods: Sequence[str], seed: int
    ) -> _Panel:
        metrics = _named(registry.entries("metric"), _PRIMARY)
        if not metrics:
            registry.find("metric", _PRIMARY[0])  # its error says which package has the metrics
        controls = _named(registry.entries("control"), _LADDER, _LAST)
        return cls(
            explainer,
            methods,
            {name: registry.resolve("metric", e.qualified)() for name, e in metrics.items()},
            {name: entry.summary for name, entry in metrics.items()},
            {name: registry.resolve("control", e.qualified)() for name, e in controls.items()},
            seed,
        )

    def fitting(self, asked: Mapping[str, Questions]) -> tuple[dict[str, str], dict[str, str]]:
        """Each metric's kind of pictures, the first it can judge; and why others are left out."""
        samples = {
            kind: next(self._explained(some.part(slice(0, 1)), self.methods[:1]))
            for kind, some in asked.items()
        }
        judged_on, left_out = {}, {}
        for name, metric in self.metrics.items():
            for kind, (_, _, explanation, evidence) in samples.items():
                try:
                    metric(explanation, evidence)
                except CapabilityError as error:
                    left_out[name] = str(error)
                else:
                    judged_on[name] = kind
                    left_out.pop(name, None)
                    break
        return judged_on, left_out

    def judge(
        self,
        asked: Mapping[str, Questions],
        judged_on: Mapping[str, str],
        progress: Progress | None,
    ) -> tuple[Values, tuple[str, ...]]:
        """Values of all rows, and the layers that were explained."""
        found: dict[Key, dict[str, list[Tensor]]] = {}
        layers: tuple[str, ...] = ()
        total, done = sum(map(len, asked.values())), 0
        for kind, pictures in asked.items():
            names = [name for name, on in judged_on.items() if on == kind]
            for start in range(0, len(pictures), _CHUNK):
                part = pictures.part(slice(start, start + _CHUNK))
                blocks: dict[tuple[Key, str], list[Tensor]] = {}
                for key, explanation, evidence in self._maps(part, start):
                    layers = layers or explanation.provenance.layers
                    for name in names:
                        column = self.metrics[name](explanation, evidence).double().cpu()
                        blocks.setdefault((key, name), []).append(column)
                for (key, name), columns in blocks.items():
                    values = found.setdefault(key, {}).setdefault(name, [])
                    values.append(torch.stack(columns, 1))
                done += len(part)
                if progress:
                    progress(done, total)
        joined = {
            key: {name: torch.cat(values) for name, values in by_metric.items()}
            for key, by_metric in found.items()
        }
        return joined, layers

    def _maps(self, part: Questions, start: int) -> Iterator[tuple[Key, Explanation, Evidence]]:
        """All that is judged: every method, and the controls in place of the first method."""
        for method, position, explanation, evidence in self._explained(part, self.methods):
            yield ("method", method), explanation, evidence
            if method != self.methods[0]:
                continue
            # Noise differs between the objects of a picture, as a method's maps may.
            noise = (self.seed * _STRIDE + start) * len(part.truths) + position
            for name, control in self.controls.items():
                maps = control(explanation, evidence, noise)
                yield ("control", name), dataclasses.replace(explanation, maps=maps), evidence

    def _explained(
        self, part: Questions, methods: Sequence[str]
    ) -> Iterator[tuple[str, int, Explanation, Evidence]]:
        found = self.explainer.compare(part.images, methods, part.targets, seed=self.seed)
        for (method, position), explanation in found.items():
            yield method, position, explanation, Evidence(truth=part.truths[position])


def _named(
    entries: Sequence[Entry], first: Sequence[str], last: Sequence[str] = ()
) -> dict[str, Entry]:
    """Entries in the order of the leaderboard, by short name or, where two share it, qualified."""
    names = [entry.name for entry in entries]

    def place(entry: Entry) -> tuple[int, str]:
        if entry.name in last:
            return len(first) + 1, entry.name
        return (first.index(entry.name) if entry.name in first else len(first)), entry.name

    return {
        entry.name if names.count(entry.name) == 1 else entry.qualified: entry
        for entry in sorted(entries, key=place)
    }


def _rows(values: Values, metrics: Mapping[str, Metric], seed: int) -> Iterator[Row]:
    """Methods as given, then controls."""
    baseline = values.get(("control", BASELINE), {})
    for kind, name in sorted(values, key=lambda key: key[0] == "control"):
        against = {} if (kind, name) == ("control", BASELINE) else baseline
        found = values[kind, name]
        cells = {
            metric: _cell(found[metric], against.get(metric), judge.higher_is_better, seed)
            for metric, judge in metrics.items()
            if metric in found
        }
        yield Row(name=name, kind=kind, cells=cells)


def _cell(values: Tensor, baseline: Tensor | None, higher_is_better: bool, seed: int) -> Cell:
    interval = partial(mean_interval, level=LEVEL, seed=seed)
    better = None
    if baseline is not None:
        ahead = values.nanmean(1) - baseline.nanmean(1)
        better = interval(ahead if higher_is_better else -ahead).low > _ROUNDING
    return Cell(
        interval=interval(values.nanmean(1)),
        better=better,
        undefined=int(values.isnan().sum()),
        maps=values.numel(),
    )
