"""Interleaved timing: every measurement has its own plain forward right beside it."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True)
class Tick:
    """Seconds of one call: on the wall, and of this process's threads."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Pair:
    """One call and the plain forward measured next to it."""

    unit: Tick
    case: Tick


@dataclass(frozen=True)
class Ratio:
    """Cost in plain forwards.

    Attributes:
        median: median over rounds of (call / forward beside it).
        low: lower quartile.
        high: upper quartile.
        best: fastest call over fastest forward.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    best: float
    rounds: int

    @property
    def uncertainty(self) -> float:
        """Half the width of the median's 95 % interval, relative (McGill et al. 1978)."""
        return float(1.57 * (self.high - self.low) / self.rounds**0.5 / self.median)


def interleave(
    unit: Call,
    cases: Mapping[str, Call],
    rounds: int,
    *,
    seed: int = 0,
    wait: Call = lambda: None,
    clean: Call = lambda: None,
) -> dict[str, list[Pair]]:
    """Run all cases `rounds` times, in a new random order each time.

    Args:
        unit: the plain forward, run before or after each case by the toss of a coin.
        cases: what to time.
        rounds: how often.
        seed: of the order.
        wait: until the device is idle.
        clean: after each case, outside the measurement.
    """
    order, found = random.Random(seed), {name: list[Pair]() for name in cases}
    with _known_garbage_aside():
        for _ in range(rounds):
            names = list(cases)
            order.shuffle(names)
            for name in names:
                both = {True: unit, False: cases[name]}
                first = order.random() < 0.5
                ticks = {which: _timed(both[which], wait) for which in (first, not first)}
                found[name].append(Pair(ticks[True], ticks[False]))
                clean()
    return found


@contextmanager
def _known_garbage_aside() -> Iterator[None]:
    """Only what the calls themselves allocate is collected between them, which is quick."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _timed(call: Call, wait: Call) -> Tick:
    gc.collect()
    wait()
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    wait()
    tick = Tick(time.perf_counter() - wall, time.process_time() - cpu)
    del result
    return tick


def ratio(pairs: Sequence[Pair], clock: str = "wall", factor: float = 1.0) -> Ratio:
    """Summary of the pairs; `factor` scales the case (a sample of a longer work).

    Raises:
        ValueError: no pairs.
    """
    if not pairs:
        raise ValueError("nothing was measured")
    units = [float(getattr(pair.unit, clock)) for pair in pairs]
    cases = [float(getattr(pair.case, clock)) * factor for pair in pairs]
    each = [case / unit for case, unit in zip(cases, units, strict=True)]
    low, median, high = quartiles(each)
    return Ratio(median, low, high, min(cases) / min(units), len(pairs))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    known = sorted(values)
    if len(known) == 1:
        return known[0], known[0], known[0]
    low, median, high = statistics.quantiles(known, n=4, method="inclusive")
    return low, median, high
