"""Targets, reshapes and model loaders of camkit. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Binary": "targets.values",
    "ClassMask": "targets.dense_targets",
    "Counterfactual": "targets.scores",
    "ClipPreprocess": "photos.clips",
    "Finer": "targets.contrast",
    "ImagePreprocess": "photos.preprocess",
    "Labels": "targets.several",
    "LogProbability": "targets.scores",
    "Margin": "targets.scores",
    "Pixel": "targets.dense_targets",
    "Probability": "targets.scores",
    "Raw": "targets.values",
    "Region": "targets.dense_targets",
    "Rest": "targets.scores",
    "SelfSimilarity": "targets.similarity",
    "Similarity": "targets.similarity",
    "Tokens": "reshapes.tokens",
    "Value": "targets.values",
    "Windows": "reshapes.windows",
}

__all__ = [
    "Binary",
    "ClassMask",
    "ClipPreprocess",
    "Counterfactual",
    "Finer",
    "ImagePreprocess",
    "Labels",
    "LogProbability",
    "Margin",
    "Pixel",
    "Probability",
    "Raw",
    "Region",
    "Rest",
    "SelfSimilarity",
    "Similarity",
    "Tokens",
    "Value",
    "Windows",
    "__version__",
]

if TYPE_CHECKING:
    from camkit_tasks.photos.clips import ClipPreprocess as ClipPreprocess
    from camkit_tasks.photos.preprocess import ImagePreprocess as ImagePreprocess
    from camkit_tasks.reshapes.tokens import Tokens as Tokens
    from camkit_tasks.reshapes.windows import Windows as Windows
    from camkit_tasks.targets.contrast import Finer as Finer
    from camkit_tasks.targets.dense_targets import ClassMask as ClassMask
    from camkit_tasks.targets.dense_targets import Pixel as Pixel
    from camkit_tasks.targets.dense_targets import Region as Region
    from camkit_tasks.targets.scores import Counterfactual as Counterfactual
    from camkit_tasks.targets.scores import LogProbability as LogProbability
    from camkit_tasks.targets.scores import Margin as Margin
    from camkit_tasks.targets.scores import Probability as Probability
    from camkit_tasks.targets.scores import Rest as Rest
    from camkit_tasks.targets.several import Labels as Labels
    from camkit_tasks.targets.similarity import SelfSimilarity as SelfSimilarity
    from camkit_tasks.targets.similarity import Similarity as Similarity
    from camkit_tasks.targets.values import Binary as Binary
    from camkit_tasks.targets.values import Raw as Raw
    from camkit_tasks.targets.values import Value as Value


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
