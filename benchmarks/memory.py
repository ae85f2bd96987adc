"""Peak memory of one call, in a process of its own.

On a CPU: `VmHWM` of Linux, reset before the call, minus the resident memory before it. Every large
block is its own mapping there (`MALLOC_MMAP_THRESHOLD_`), so freed tensors leave the count at once
and the peak is that of live memory: tensors, arrays, scratch space and all. On CUDA:
`torch.cuda.max_memory_allocated` minus what was allocated before. Warm: the second to fourth call
count, their median is taken.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

UNIT = "forward"
_MIB = 2**20
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def available(device: str) -> bool:
    """Whether peaks can be measured here."""
    return device != "cpu" or os.access(_RESET, os.W_OK)


def in_subprocess(row: str, contender: str, device: str, threads: int, seed: int) -> float:
    """Peak in MiB of a contender ("forward" for the unit) on a row of the table.

    Raises:
        RuntimeError: the process failed.
    """
    words = [row, contender, device, str(threads), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *words],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"peak memory of {contender} on {row}: {last}")
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])


def peak(call: Callable[[], object], clean: Callable[[], object], device: str) -> float:
    """Median peak of three warm calls, in MiB above what was in use before."""
    measure = above if device == "cpu" else _on_cuda
    call()
    readings = []
    for _ in range(3):
        clean()
        gc.collect()
        readings.append(measure(call))
    return statistics.median(readings)


def above(call: Callable[[], object]) -> float:
    """Peak in MiB of one call on a CPU, above what was in use before."""
    _trim()
    _RESET.write_text("5")
    before = _status("VmRSS")
    result = call()
    top = _status("VmHWM")
    del result
    return (top - before) / 1024


def _on_cuda(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    top = torch.cuda.max_memory_allocated()
    del result
    return float(top - before) / _MIB


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB", _STATUS.read_text("ascii"), re.M)
    assert found is not None
    return int(found[1])


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _main(row_name: str, contender: str, device: str, threads: str, seed: str) -> None:
    from benchmarks.contenders import CONTENDERS
    from benchmarks.rows import choose
    from benchmarks.scenes import build

    torch.set_num_threads(int(threads))
    (row,) = choose(row_name)
    scene = build(row, device, int(seed))
    call = scene.forward if contender == UNIT else CONTENDERS[contender].work(scene)[0]
    scene.forward()
    print(json.dumps({"mib": peak(call, scene.clean, device)}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
