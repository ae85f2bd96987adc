"""Explanations with a known truth and a live capture, for metrics and controls."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from camkit_core.api import explain
from camkit_core.capture import Capture
from camkit_core.explanation import Explanation
from camkit_core.need import Need
from camkit_core.protocols import Evidence, Truth
from camkit_core.testing.networks import LAYER, DeepNet, Net, images
from camkit_core.testing.subject import bare_registry

CLASSES = [1, 3, 0]


class _Keep:
    """Gradient times activation; hands its capture to whoever asks."""

    name: ClassVar[str] = "keep"
    needs: ClassVar[Need] = (
        Need.ACTIVATIONS | Need.GRADIENTS | Need.INPUT_GRADIENTS | Need.SCORES
        | Need.TAIL | Need.RECAPTURE
    )  # fmt: skip

    def __init__(self) -> None:
        self.kept: list[Capture] = []

    def __call__(self, capture: Capture, /) -> Tensor:
        """`sum_k G A`."""
        self.kept.append(capture)
        return (capture.gradients * capture.activations).sum(1)


def network() -> Net:
    """The explained network."""
    return DeepNet(seed=1)


def picture() -> Tensor:
    """Three images."""
    return images(len(CLASSES))


def explained(net: Net, x: Tensor, classes: list[int]) -> tuple[Explanation, Capture]:
    """An explanation, and the capture it was made from."""
    method = _Keep()
    found = explain(net, x, method, classes, LAYER, registry=bare_registry())
    return found, method.kept[0]


def truth(n: int = len(CLASSES)) -> Truth:
    """A 3 x 3 object, a rival beside it, and the half of the picture that the object is in."""
    target = torch.zeros(len(CLASSES), 5, 8, dtype=torch.bool)
    rivals, cell = target.clone(), target.clone()
    for row in range(len(CLASSES)):
        target[row, 1:4, row : row + 3] = True
        rivals[row, 0:2, 6:8] = True
        cell[row, :, :6] = True
    return Truth(target=target[:n], rivals=rivals[:n], cell=cell[:n])


def evidence(capture: Capture | None) -> Evidence:
    """All there is."""
    return Evidence(truth=truth(), capture=capture)
