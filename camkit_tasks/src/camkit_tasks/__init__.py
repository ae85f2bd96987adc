"""Targets, reshapes and model loaders of camkit. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ImagePreprocess": "photos.preprocess",
    "LogProbability": "targets.scores",
    "Margin": "targets.scores",
    "Probability": "targets.scores",
    "Rest": "targets.scores",
    "Tokens": "reshapes.tokens",
}

__all__ = [
    "ImagePreprocess",
    "LogProbability",
    "Margin",
    "Probability",
    "Rest",
    "Tokens",
    "__version__",
]

if TYPE_CHECKING:
    from camkit_tasks.photos.preprocess import ImagePreprocess as ImagePreprocess
    from camkit_tasks.reshapes.tokens import Tokens as Tokens
    from camkit_tasks.targets.scores import LogProbability as LogProbability
    from camkit_tasks.targets.scores import Margin as Margin
    from camkit_tasks.targets.scores import Probability as Probability
    from camkit_tasks.targets.scores import Rest as Rest


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
