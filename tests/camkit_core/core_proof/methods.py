"""The few methods these tests need, written against the public protocol only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor

from camkit_core import Capture, Entry, MethodModel, Need, Registry, hookimpl


class GradCAM(MethodModel):
    """Average gradient times activation."""

    name = "gradcam"
    needs = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        axes = tuple(range(2, capture.gradients.ndim))
        weights = capture.gradients.mean(axes, keepdim=True)
        return (weights * capture.activations).sum(1)


class HiRes(MethodModel):
    """Gradient times activation, with a gain."""

    name = "hires"
    needs = Need.ACTIVATIONS | Need.GRADIENTS
    gain: float = 1.0
    rectify: bool = False

    def __call__(self, capture: Capture, /) -> Tensor:
        raw = self.gain * (capture.gradients * capture.activations).sum(1)
        return raw.relu() if self.rectify else raw


class Mean(MethodModel):
    """Average activation: no gradients."""

    name = "mean"
    needs = Need.ACTIVATIONS

    def __call__(self, capture: Capture, /) -> Tensor:
        return capture.activations.mean(1)


class Saliency(MethodModel):
    """Input gradient times input."""

    name = "saliency"
    needs = Need.INPUT_GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        return (capture.input_gradients * capture.inputs).sum(1)


def spy(look: Callable[[Capture], Tensor], needs: Need, label: str = "spy") -> Any:
    """A method made of one function."""

    class Spy(MethodModel):
        name = label
        runs = "whatever it takes"

        def __call__(self, capture: Capture, /) -> Tensor:
            return look(capture)

    Spy.needs = needs
    return Spy()


METHODS = (GradCAM, HiRes, Mean, Saliency)


@hookimpl
def camkit_entries() -> list[Entry]:
    return [Entry.of(method) for method in METHODS]


def registry(*others: tuple[str, ModuleType], **words: Any) -> Registry:
    """A registry with these methods, the given plugins, and nothing that is installed."""
    own = ("proof", sys.modules[__name__])
    return Registry(discover=False, plugins=[own, *others], strict=True, **words)
