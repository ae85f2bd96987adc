"""What is installed, for `run.json` and `camkit doctor`."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from camkit_core import Registry

_LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "pluggy", "pydantic", "cyclopts", "rich")


def camkit_versions(registry: Registry) -> dict[str, str]:
    """Version of the front door, the core and every plugin distribution that works."""
    found = {name: _version(name) for name in ("camkit", "camkit-core")}
    plugins = {p.distribution: p.version for p in registry.plugins if p.status == "ok"}
    return {**found, **plugins}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide about results, from their metadata."""
    return {name: _version(name) for name in _LIBRARIES}


def devices() -> list[str]:
    """Devices `--device` accepts on this machine, with their names."""
    import torch

    names = [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
    ]
    return [f"cpu ({torch.get_num_threads()} threads)", *names]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
