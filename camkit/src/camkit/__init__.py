"""Explain what a vision model looked at: `camkit.explain(model, x, method="gradcam")`.

Names are imported on first use; `import camkit` alone loads neither torch nor a plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Explainer": "camkit_core",
    "compare": "camkit_core",
    "explain": "camkit_core",
    "load_model": "camkit.installed",
    "methods": "camkit.installed",
    "open_photo": "camkit.photo",
    "plugins": "camkit.installed",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604

if TYPE_CHECKING:
    from camkit.installed import load_model as load_model
    from camkit.installed import methods as methods
    from camkit.installed import plugins as plugins
    from camkit.photo import open_photo as open_photo
    from camkit_core import Explainer as Explainer
    from camkit_core import compare as compare
    from camkit_core import explain as explain


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
