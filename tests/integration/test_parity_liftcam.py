"""LIFT-CAM's multipliers equal the released captum's DeepLift, wherever that is right.

captum 0.9.0 exchanges derivatives by hooks on modules. It is wrong, without saying so, where
(1) a function is not one of its modules, (2) one of its modules follows another directly: the
first is given the gradient behind the second as it was before the exchange, (3) windows of a max
pooling overlap, as AlexNet's do: of what several windows give to a place the last one is kept,
(4) several images are asked for at once behind a max pooling. So the networks here are given to
captum one image at a time and with a copy between any two modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
import torchvision
from captum.attr import DeepLift
from captum.attr._core import deep_lift
from torch import Tensor, nn
from torch.nn import functional as F

from camkit import explain
from camkit_core import Capture, MethodModel, Need

from .parity_helpers import Copy, assert_live, network, one_thread, pictures, require

CLOSE = 1e-9
CLASSES = [1, 4]


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("captum")
    with one_thread():
        yield


class Look(MethodModel):
    """Keeps what the capture gives."""

    name: ClassVar[str] = "look"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    _seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, capture: Capture, /) -> Tensor:
        """Contributions, summed over the channels."""
        A = capture.activations
        self._seen = A, capture.multipliers(torch.zeros_like(A))
        return (self._seen[1] * A).sum(1)


def ours(net: nn.Module, x: Tensor, layer: str, classes: list[int]) -> tuple[Tensor, Tensor]:
    """Activations and their contributions `[N, C, H, W]`."""
    look = Look()
    explain(net, x, look, classes, layer)
    assert look._seen is not None
    A, M = look._seen
    return A, M * A


def theirs(tail: nn.Module, A: Tensor, classes: list[int]) -> Tensor:
    """The same by captum, image by image."""
    rows = [row.contiguous().requires_grad_() for row in A.clone().split(1)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting forward, backward hooks")
        found = [
            DeepLift(tail).attribute(row, target=c) for row, c in zip(rows, classes, strict=True)
        ]
    return torch.cat(found).detach()


def off(tail: nn.Module, A: Tensor, contributions: Tensor, classes: list[int]) -> float:
    """How far contributions are from adding up, relative to their size; the worst image."""
    with torch.no_grad():
        change = (tail(A) - tail(torch.zeros_like(A)))[range(len(A)), classes]
    parts = contributions.flatten(1)
    return float(((parts.sum(1) - change).abs() / parts.abs().sum(1)).max())


def gap(ours_: Tensor, theirs_: Tensor) -> float:
    """Largest difference in units of the largest contribution."""
    assert_live(theirs_)
    return float((ours_ - theirs_).abs().max() / theirs_.abs().max())


def apart(*modules: nn.Module) -> nn.Sequential:
    """The modules one after the other, with a copy behind each."""
    flat: list[nn.Module] = []
    for module in modules:
        inner = list(module) if isinstance(module, nn.Sequential) else [module]
        for one in inner:
            flat += [*apart(*one)] if isinstance(one, nn.Sequential) else [one, Copy()]
    return nn.Sequential(*flat)


def behind(net: Any, layer: int) -> list[nn.Module]:
    """What a torchvision classifier runs after one of its features."""
    return [net.features[layer + 1 :], net.avgpool, nn.Flatten(), net.classifier]


class Small(nn.Module):
    """A small VGG whose functions are modules."""

    def __init__(self, kernel: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(kernel, 2)),
            *(nn.Conv2d(6, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1)),
            *(nn.ELU(), nn.MaxPool2d(kernel, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@cache
def built(make: Callable[[], nn.Module]) -> nn.Module:
    """The same weights every time, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        net = make()
        for parameter in net.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, std=0.1)
    return net.double().eval()


def alexnet() -> nn.Module:
    """Seeded weights."""
    return torchvision.models.alexnet(weights=None, num_classes=20)


def overlapping() -> nn.Module:
    """Windows of three at every other place."""
    return Small(kernel=3)


SIZES = {"alexnet": (96, 96), "vgg11": (64, 64)}
CASES = [
    *(("small", layer) for layer in (0, 3, 6)),
    *(("vgg11", layer) for layer in (18, 20)),
    pytest.param("vgg11", 8, marks=pytest.mark.slow),
    ("alexnet", 12),
    *(("mobilenet_v3_small", layer) for layer in (11, 12)),
]


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_equal_to_captum(name: str, layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    makes = {"small": Small, "alexnet": alexnet}
    net: Any = built(makes[name]) if name in makes else network(name)
    x = pictures(2, 41, SIZES.get(name, (40, 56)))
    A, found = ours(net, x, f"features.{layer}", CLASSES)
    # captum has the rule, but not this module in its table.
    monkeypatch.setitem(deep_lift.SUPPORTED_NON_LINEAR, nn.Hardswish, deep_lift.nonlinear)
    tail = apart(*behind(net, layer))
    assert off(tail, A, found, CLASSES) < 1e-12
    assert gap(found, theirs(tail, A, CLASSES)) < CLOSE


# --- where captum is wrong, and says nothing -------------------------------------------------


def assert_wrong(tail: nn.Module, A: Tensor, found: Tensor, classes: list[int]) -> None:
    """captum's contributions do not add up; ours do."""
    other = theirs(tail, A, classes)
    assert_live(other)
    assert off(tail, A, other, classes) > 1e-3, "captum is right now: compare with it"
    assert off(tail, A, found, classes) < 1e-12


class Functional(nn.Module):
    """ReLU as most people write it (captum's issue 1082)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.next = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 6)

    def tail(self, A: Tensor) -> Tensor:
        """What comes behind the layer."""
        return self.fc(F.relu(self.next(F.relu(A))).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.layer(x))


class Tail(nn.Module):
    """The tail of a network as a module."""

    def __init__(self, net: Functional) -> None:
        super().__init__()
        self.net = net

    def forward(self, A: Tensor) -> Tensor:
        return self.net.tail(A)


def test_functions_that_are_no_modules() -> None:
    net: Any = built(Functional)
    A, found = ours(net, pictures(2, 42, (12, 14)), "layer", CLASSES)
    assert_wrong(Tail(net), A, found, CLASSES)
    written_as_modules = apart(
        nn.ReLU(), net.next, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc
    )
    assert gap(found, theirs(written_as_modules, A, CLASSES)) < CLOSE


def test_modules_that_follow_one_another() -> None:
    net: Any = built(Small)
    A, found = ours(net, pictures(2, 43, (40, 56)), "features.0", CLASSES)
    assert_wrong(nn.Sequential(*behind(net, 0)), A, found, CLASSES)


def test_windows_that_overlap() -> None:
    net: Any = built(overlapping)
    A, found = ours(net, pictures(2, 44, (40, 56)), "features.0", CLASSES)
    assert_wrong(apart(*behind(net, 0)), A, found, CLASSES)


def test_windows_of_alexnet() -> None:
    net: Any = built(alexnet)
    A, found = ours(net, pictures(2, 45, (96, 96)), "features.8", CLASSES)
    assert_wrong(apart(*behind(net, 8)), A, found, CLASSES)
