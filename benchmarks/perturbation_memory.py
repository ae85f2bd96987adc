"""`python -m benchmarks.perturbation_memory`: peak memory of 2,048 masks under a limit.

RISE with 2,048 masks on a ResNet-18 and one image of 224 x 224, whose masked images together take
1.2 GB. Each limit is measured in a process of its own, where every freed tensor leaves the count at
once (see `benchmarks/memory.py`); the figure is what the call takes beyond what was there before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MASKS = 2048
LIMITS = ("64MB", "256MB", "1GB")


def main(words: Sequence[str] | None = None) -> int:
    """Measure every limit, or one in this process."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perturbation_memory", description=__doc__
    )
    parser.add_argument("--masks", type=int, default=MASKS)
    parser.add_argument("--limits", nargs="*", default=LIMITS)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.here:
        print(json.dumps({"mb": _peak(asked.here, asked.masks)}))
        return 0
    print(f"| limit | peak of {asked.masks:,} masks, MB | within |\n| --- | --- | --- |")
    peaks = {limit: _elsewhere(limit, asked.masks) for limit in asked.limits}
    for limit, peak in peaks.items():
        print(f"| {limit} | {peak:.0f} | {'yes' if peak <= _megabytes(limit) else 'no'} |")
    return 0 if all(peak <= _megabytes(limit) for limit, peak in peaks.items()) else 1


def _elsewhere(limit: str, masks: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--here", limit, "--masks", str(masks)],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["mb"])


def _peak(limit: str, masks: int) -> float:
    import torch
    import torchvision

    import camkit
    from benchmarks.memory import above

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, image = torchvision.models.resnet18(weights=None).eval(), torch.randn(1, 3, 224, 224)

    def call(count: int) -> object:
        return camkit.explain(net, image, f"rise:masks={count}", batch_size=limit)

    call(8)
    return above(lambda: call(masks)) * 2**20 / 10**6


def _megabytes(limit: str) -> float:
    from camkit_core.planner import memory_limit

    return memory_limit(limit) / 10**6


if __name__ == "__main__":
    sys.exit(main())
