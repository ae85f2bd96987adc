"""A network with any rest behind its layer, and DeepLIFT's rules in slow loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import Explanation, Need, explain
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, fill, images

NEEDS = Need.ACTIVATIONS | Need.TAIL
WIDE = 12
EXACT = 1e-10

Asked = tuple[Tensor, Tensor, Tensor, Explanation]


class Net(nn.Module):
    """`layer`, then whatever a test wants."""

    def __init__(self, rest: Callable[[Any, Tensor], Tensor], seed: int = 0) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu, self.writing = nn.ReLU(), nn.ReLU(inplace=True)
        self.hidden, self.head = nn.Linear(4, WIDE), nn.Linear(WIDE, CLASSES)
        fill(self, seed)
        self.rest = rest
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self, self.layer(x))


def scored(net: Net, a: Tensor, act: Callable[[Tensor], Tensor] = torch.tanh) -> Tensor:
    """Two more layers behind the pooled activations."""
    return net.head(act(net.hidden(a.mean((2, 3)))))


def ask(
    net: nn.Module,
    x: Tensor | None = None,
    target: Any = 1,
    baseline: Tensor | float = 0.0,
    layer: str = "layer",
) -> Asked:
    """Multipliers, activations, baseline, and the explanation."""
    kept: list[Tensor] = []

    def look(capture: Any) -> Tensor:
        a = capture.activations
        low = torch.zeros_like(a) + baseline
        kept.extend([capture.multipliers(low), a.clone(), low])
        return a.sum(1)

    x = images(2) if x is None else x
    found = explain(net, x, spy(look, NEEDS), target, layer, registry=registry())
    m, a, low = kept
    return m, a, low, found


def adds_up(net: Net, found: Asked, target: int = 1, tolerance: float = EXACT) -> None:
    """Summation to delta, by running the rest of the network here."""
    m, a, low, explanation = found
    with torch.no_grad():
        change = (net.rest(net, a.clone()) - net.rest(net, low.clone()))[:, target]
    sums = ((a - low) * m).flatten(1).sum(1)
    torch.testing.assert_close(sums, change, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(explanation.score, net.rest(net, a.clone()).detach()[:, target])
    assert float(m.std()) > 1e-4


def matrix(function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Matrix of an affine function of one image, column by column."""
    nothing = function(torch.zeros_like(like)[None])[0].flatten()
    columns = []
    for index in range(like.numel()):
        unit = torch.zeros(like.numel(), dtype=like.dtype)
        unit[index] = 1
        columns.append(function(unit.reshape(like.shape)[None])[0].flatten() - nothing)
    return torch.stack(columns, 1)


def windows(
    size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Positions of each window of a plane or volume, in the order of the output."""
    counts = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    for start in itertools.product(*map(range, counts)):
        cells = itertools.product(*map(range, kernel))
        places = [
            tuple(
                a * s - p + c * d
                for a, s, p, c, d in zip(start, stride, padding, cell, dilation, strict=True)
            )
            for cell in cells
        ]
        yield start, [q for q in places if all(0 <= i < n for i, n in zip(q, size, strict=True))]


def slow_maxima(new: Tensor, old: Tensor, given: Tensor, *shape: Any) -> Tensor:
    """Multipliers before a pooling of one image `[C, *S]`, from those behind it."""
    gains = torch.zeros_like(new)
    for channel in range(len(new)):
        for start, places in windows(new.shape[1:], *shape):
            high, low = (max(float(t[(channel, *q)]) for q in places) for t in (new, old))
            larger = new if high >= low else old
            place = next(q for q in places if float(larger[(channel, *q)]) == max(high, low))
            gains[(channel, *place)] += float(given[(channel, *start)]) * (high - low)
    return torch.where(gains == 0, 0, gains / (new - old))


def slow_secants(
    function: Callable[[float], float], new: Tensor, old: Tensor, given: Tensor
) -> Tensor:
    """Multipliers before a function of single numbers."""
    found = torch.zeros_like(new)
    for place in itertools.product(*map(range, new.shape)):
        x, y = float(new[place]), float(old[place])
        found[place] = float(given[place]) * (function(x) - function(y)) / (x - y)
    return found
