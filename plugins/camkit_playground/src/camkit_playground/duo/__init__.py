"""Duo: pictures with known truth, a pure function of their seed.

Needs numpy only; `batch` imports torch.
"""

from camkit_playground.duo.classes import CLASS_NAMES, class_index
from camkit_playground.duo.drawing import KINDS, Scene, scene, scenes
from camkit_playground.duo.tensors import MEAN, STD, batch
from camkit_playground.duo.tiling import Mosaic, mosaic

__all__ = [
    "CLASS_NAMES",
    "KINDS",
    "MEAN",
    "STD",
    "Mosaic",
    "Scene",
    "batch",
    "class_index",
    "mosaic",
    "scene",
    "scenes",
]
