"""Pictures and files of explanations.

Public names load on first use, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camkit_render.grid import Grid
    from camkit_render.load import Saved, load
    from camkit_render.overlay import HeatMap, Overlay
    from camkit_render.placement import place
    from camkit_render.writers import JsonWriter, NpzWriter, PngWriter, SafetensorsWriter

__version__ = "0.1.0"

_HOME = {
    "Grid": "grid",
    "HeatMap": "overlay",
    "JsonWriter": "writers",
    "NpzWriter": "writers",
    "Overlay": "overlay",
    "PngWriter": "writers",
    "SafetensorsWriter": "writers",
    "Saved": "load",
    "load": "load",
    "place": "placement",
}

__all__ = [
    "Grid",
    "HeatMap",
    "JsonWriter",
    "NpzWriter",
    "Overlay",
    "PngWriter",
    "SafetensorsWriter",
    "Saved",
    "__version__",
    "load",
    "place",
]


def __getattr__(name: str) -> Any:
    """Import the module that defines `name`, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *__all__})
