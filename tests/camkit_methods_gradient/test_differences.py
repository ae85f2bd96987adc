"""Maps against finite differences of the tail: no automatic differentiation involved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    raw,
)
from gradient_proof.networks import (
    SIZES,
    BnNet,
    DeepNet,
    FlatNet,
    SmoothNet,
    Split,
    images,
    log_probability,
)
from torch import Tensor

DIMS = pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])


def cells(dims: int) -> int:
    """Number of positions."""
    return int(np.prod(SIZES[dims]))


def slope(net: Split, a: Tensor, direction: Tensor, c: int, h: float = 1e-6) -> float:
    """Derivative of one score along a direction in activation space, without autograd."""
    with torch.no_grad():
        up, down = net.tail(a + h * direction), net.tail(a - h * direction)
    return float((up - down)[0, c]) / (2 * h)


@DIMS
@pytest.mark.parametrize("kind", [FlatNet, DeepNet, SmoothNet, BnNet])
def test_hirescam_against_central_differences(kind: type[Split], dims: int) -> None:
    """`sum_k G A` at one position is the slope along A restricted to that position."""
    net, x = kind(dims, seed=12), images(1, dims)
    a = net.features(x).detach()
    expected = torch.zeros_like(a[:, 0])
    for p in np.ndindex(*a.shape[2:]):
        at = torch.zeros_like(a)
        at[(0, slice(None), *p)] = 1
        expected[(0, *p)] = slope(net, a, a * at, 2)
    assert_equal(raw(net, x, "hirescam", target=2), expected, 1e-6)


@DIMS
@pytest.mark.parametrize("kind", [DeepNet, SmoothNet])
def test_gradcam_against_central_differences(kind: type[Split], dims: int) -> None:
    """`sum_k mean(G_k) A_k(p)` is the slope along A(p) / Z spread over all positions."""
    net, x = kind(dims, seed=12), images(1, dims)
    a = net.features(x).detach()
    expected = torch.zeros_like(a[:, 0])
    for p in np.ndindex(*a.shape[2:]):
        here = a[(0, slice(None), *p)].reshape(1, -1, *(1,) * dims)
        expected[(0, *p)] = slope(net, a, (here / cells(dims)).expand_as(a), 2)
    assert_equal(raw(net, x, "gradcam", target=2), expected, 1e-6)


def test_shapleycam_against_second_differences() -> None:
    """The Hessian term is a mixed second difference along A and along A(p) / Z."""
    net, x = SmoothNet(seed=13), images(1)
    score = log_probability(2)
    a, h = net.features(x).detach(), 1e-4
    gradcam, expected = raw(net, x, "gradcam", target=score), torch.zeros_like(a[:, 0])

    def value(b: Tensor) -> float:
        with torch.no_grad():
            return float(score(net.tail(b)[0]))

    for p in np.ndindex(*a.shape[2:]):
        d = (a[(0, slice(None), *p)].reshape(1, -1, 1, 1) / cells(2)).expand_as(a) * 30
        corners = [value(a + s * h * d + t * h * a) * s * t for s in (1, -1) for t in (1, -1)]
        expected[(0, *p)] = gradcam[(0, *p)] - sum(corners) / (4 * h * h) / 30 / 2
    assert_different(gradcam, expected)
    assert_equal(raw(net, x, "shapleycam", target=score), expected, 1e-5)
