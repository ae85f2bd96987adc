"""A method to explain with, where no package of methods is installed."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from camkit_core import Capture, MethodModel, Need


class Slope(MethodModel):
    """Gradient times activation, `sum_k G A`."""

    name: ClassVar[str] = "slope"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        """Raw map `[N, *S]`."""
        return (capture.gradients * capture.activations).sum(1)
