"""What `import camkit; camkit.methods()` costs over a bare interpreter."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.timing import quartiles

GOAL = 0.25
BARE = "pass"
LISTING = "import camkit; camkit.methods()"
_UNWANTED = f"{LISTING}; import sys; print(sorted({{'torch', 'numpy'}} & set(sys.modules)))"


def startup(rounds: int, seed: int = 0) -> dict[str, Any]:
    """Seconds of interleaved subprocesses, and which heavy libraries were loaded."""
    order, extra, bare = random.Random(seed), list[float](), list[float]()
    _run(LISTING)
    for _ in range(rounds):
        codes = [BARE, LISTING]
        order.shuffle(codes)
        seconds = {code: _seconds(code) for code in codes}
        extra.append(seconds[LISTING] - seconds[BARE])
        bare.append(seconds[BARE])
    low, median, high = quartiles(extra)
    return {
        "code": LISTING,
        "seconds": {"median": median, "low": low, "high": high, "best": min(extra)},
        "bare": statistics.median(bare),
        "rounds": rounds,
        "goal": GOAL,
        "met": median <= GOAL,
        "loaded": _run(_UNWANTED),
    }


def _seconds(code: str) -> float:
    start = time.perf_counter()
    _run(code)
    return time.perf_counter() - start


def _run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
