"""Measures one row: maps checked, passes counted, then time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks import memory
from benchmarks.contenders import CONTENDERS, Contender, Maps, Work
from benchmarks.counting import counted
from benchmarks.environment import commit, load
from benchmarks.guard import inspect
from benchmarks.results import Entrant, Result
from benchmarks.rows import Row
from benchmarks.scenes import Scene, build
from benchmarks.timing import Pair, interleave, ratio

Build = Callable[[Row, str, int], Scene]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run measures.

    Attributes:
        rounds: interleaved rounds with all contenders.
        max_rounds: camkit alone goes on until here while its median is less certain than
            `precision`.
        precision: relative half width of the median's 95 % interval that is good enough.
        clock: "wall", or "cpu" (processor time; with one thread, other load does not count).
        memory: measure peaks too.
    """

    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    rounds: int = 9
    max_rounds: int = 9
    precision: float = 0.01
    clock: str = "wall"
    memory: bool = True


def measure(
    row: Row,
    settings: Settings,
    *,
    builder: Build | None = None,
    contenders: Mapping[str, Contender] = CONTENDERS,
) -> Result:
    """One row of the table; whatever goes wrong is in `Result.error`."""
    result = Result(row)
    try:
        scene = (builder or build)(row, settings.device, settings.seed)
        _fill(result, scene, settings, contenders)
    except Exception as error:  # one broken row must not cost the others
        result.error = f"{type(error).__name__}: {error}"
    result.load, result.commit = load(), commit()
    result.judge(settings.clock)
    return result


def _fill(
    result: Result, scene: Scene, settings: Settings, contenders: Mapping[str, Contender]
) -> None:
    works: dict[str, Work] = {}
    for name in scene.row.contenders:
        contender = contenders[name]
        entrant = result.entrants[name] = Entrant(note=contender.unfit(scene))
        if not entrant.note:
            works[name], entrant.factor = contender.work(scene)
            entrant.methods = contender.supported(scene.row.methods)
    produced = {name: _count(work, scene, result.entrants[name]) for name, work in works.items()}
    for name, off in inspect(scene, produced).items():
        result.entrants[name].differences = off
    del produced
    if "time" in scene.row.measures:
        _time(result, scene, works, settings)
    if settings.memory and "memory" in scene.row.measures:
        _memory(result, list(works), settings)


def _count(work: Work, scene: Scene, entrant: Entrant) -> Maps:
    """Run once to warm up and once to count."""
    work()
    scene.clean()
    with counted(scene.model) as passes:
        maps = work()
    scene.clean()
    for name, value in asdict(passes).items():
        setattr(entrant, name, round(value * entrant.factor))
    return maps


def _time(result: Result, scene: Scene, works: dict[str, Work], settings: Settings) -> None:
    shared: dict[str, Any] = {"wait": _waiter(settings.device), "clean": scene.clean}
    interleave(scene.forward, {}, 1, **shared)
    pairs = interleave(scene.forward, works, settings.rounds, seed=settings.seed, **shared)
    ours = {"camkit": works["camkit"]} if "camkit" in works else {}
    while ours and _unsettled(pairs["camkit"], settings):
        more = interleave(scene.forward, ours, 1, seed=len(pairs["camkit"]), **shared)
        pairs["camkit"] += more["camkit"]
    for name, found in pairs.items():
        _summarize(result.entrants[name], found, settings.device)
    units = [pair.unit.wall for found in pairs.values() for pair in found]
    result.forward["seconds"] = statistics.median(units)


def _unsettled(pairs: list[Pair], settings: Settings) -> bool:
    if len(pairs) >= settings.max_rounds:
        return False
    return ratio(pairs, settings.clock).uncertainty > settings.precision


def _summarize(entrant: Entrant, pairs: list[Pair], device: str) -> None:
    entrant.wall = ratio(pairs, "wall", entrant.factor)
    if device == "cpu":
        entrant.cpu = ratio(pairs, "cpu", entrant.factor)
    entrant.seconds = statistics.median(pair.case.wall for pair in pairs) * entrant.factor


def _memory(result: Result, names: list[str], settings: Settings) -> None:
    if not memory.available(settings.device):
        return
    peaks = {
        name: memory.in_subprocess(
            result.row.name, name, settings.device, settings.threads, settings.seed
        )
        for name in [memory.UNIT, *names]
    }
    result.forward["memory"] = unit = peaks.pop(memory.UNIT)
    for name, mib in peaks.items():
        result.entrants[name].memory = mib - unit


def _waiter(device: str) -> Callable[[], object]:
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None
