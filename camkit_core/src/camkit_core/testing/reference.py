"""Published equations again: slow, from the papers, in plain Python loops and float64.

One image at a time; `A[k][p]` is the activation of channel k at position p (positions in row-major
order), `G[k][p]` the gradient of the score with respect to it. Nothing here shares code with any
method, or uses tensor operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Grid = list[list[float]]
"""Channels x positions."""

Reference = Callable[[Tensor, Tensor], Tensor]
"""`(activations [N, C, *S], gradients [N, C, *S]) -> raw map [N, *S]`."""

_Equation = Callable[[Grid, Grid], list[float]]


def by_image(equation: _Equation) -> Reference:
    """An equation for one image, as a function of a batch."""

    def run(activations: Tensor, gradients: Tensor) -> Tensor:
        maps = [
            torch.tensor(equation(a, g), dtype=torch.float64)
            for a, g in zip(grids(activations), grids(gradients), strict=True)
        ]
        return torch.stack(maps).reshape(len(activations), *activations.shape[2:])

    return run


def grids(maps: Tensor) -> list[Grid]:
    """`[N, C, *S]` as nested lists, one per image."""
    found: list[Grid] = maps.detach().double().flatten(2).tolist()
    return found


def _relu(value: float) -> float:
    return value if value > 0 else 0.0


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def weighted(weights: list[float], a: Grid) -> list[float]:
    """`L[p] = sum_k w[k] A[k][p]`."""
    return [
        math.fsum(w * channel[p] for w, channel in zip(weights, a, strict=True))
        for p in range(len(a[0]))
    ]


def _pointwise(product: Callable[[float, float], float]) -> _Equation:
    def run(a: Grid, g: Grid) -> list[float]:
        return [
            math.fsum(product(a[k][p], g[k][p]) for k in range(len(a))) for p in range(len(a[0]))
        ]

    return run


def _gradcam(a: Grid, g: Grid) -> list[float]:
    """ArXiv 1610.02391, equations 1 and 2, before the ReLU."""
    return weighted([_mean(channel) for channel in g], a)


def _gradcampp(a: Grid, g: Grid) -> list[float]:
    """ArXiv 1710.11063, equation 19; alpha is 0 where G is."""

    def weight(k: int) -> float:
        total = math.fsum(a[k])
        terms = []
        for d in g[k]:
            bottom = 2 * d**2 + total * d**3
            terms.append(d**2 / bottom * _relu(d) if bottom != 0 else 0.0)
        return math.fsum(terms)

    return weighted([weight(k) for k in range(len(a))], a)


def _xgradcam(a: Grid, g: Grid) -> list[float]:
    """ArXiv 2008.02312, equation 8; a channel that sums to nothing gets no weight."""

    def weight(k: int) -> float:
        total = math.fsum(a[k])
        if abs(total) <= 1e-13 * math.fsum(map(abs, a[k])):
            return 0.0
        return math.fsum(d * v for d, v in zip(g[k], a[k], strict=True)) / total

    return weighted([weight(k) for k in range(len(a))], a)


def _ssgradcam(a: Grid, g: Grid) -> list[float]:
    """Doi 10.1109/ICIP46576.2022.9897350: each channel of Grad-CAM times |G| / max |G|."""
    parts = []
    for k in range(len(a)):
        top = max(map(abs, g[k]))
        space = [abs(d) / top if top else 0.0 for d in g[k]]
        parts.append([_mean(g[k]) * s * v for s, v in zip(space, a[k], strict=True)])
    return [math.fsum(part[p] for part in parts) for p in range(len(a[0]))]


def _eigencam(a: Grid, g: Grid) -> list[float]:
    """ArXiv 2008.00299, equations 4 and 5, by power iteration; the sum is positive."""
    del g
    places = [[channel[p] for channel in a] for p in range(len(a[0]))]
    return _positive(_projection(places, [1.0 + 0.1 * k for k in range(len(a))]))


def _projection(rows: Grid, start: list[float]) -> list[float]:
    """Projection of the rows on their first right-singular vector."""
    vector = start
    for _ in range(4000):
        along = [_dot(row, vector) for row in rows]
        new = [
            math.fsum(p * row[k] for p, row in zip(along, rows, strict=True))
            for k in range(len(vector))
        ]
        size = math.sqrt(_dot(new, new))
        if not size:
            return [0.0] * len(rows)
        new = [v / size for v in new]
        moved = max(abs(u - v) for u, v in zip(new, vector, strict=True))
        vector = new
        if moved < 1e-15:
            break
    return [_dot(row, vector) for row in rows]


def _dot(one: list[float], other: list[float]) -> float:
    return math.fsum(u * v for u, v in zip(one, other, strict=True))


def _positive(values: list[float]) -> list[float]:
    return [-v for v in values] if math.fsum(values) < 0 else values


REFERENCES: dict[str, Reference] = {
    "gradcam": by_image(_gradcam),
    "gradcampp": by_image(_gradcampp),
    "xgradcam": by_image(_xgradcam),
    "ssgradcam": by_image(_ssgradcam),
    "hirescam": by_image(_pointwise(lambda a, g: a * g)),
    "gradcamelementwise": by_image(_pointwise(lambda a, g: _relu(a * g))),
    "layercam": by_image(_pointwise(lambda a, g: a * _relu(g))),
    "lafam": by_image(
        lambda a, g: [_mean([channel[p] for channel in a]) for p in range(len(a[0]))]
    ),
    "eigencam": by_image(_eigencam),
}
"""Equations by method name. A method may bring its own as a class attribute `reference`."""
