"""Where the numbers come from: versions and hardware, never names or paths of a machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_NAMES = (
    "camkit",
    "camkit-core",
    "torch",
    "torchvision",
    "grad-cam",
    "torchcam",
    "captum",
    "numpy",
)


def environment(device: str) -> dict[str, Any]:
    """Versions, device, threads and load."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in _NAMES},
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cpus": _cpus(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "commit": commit(),
    }


def load() -> float | None:
    """Processes that wanted a processor during the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The checkout, as git names it."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
