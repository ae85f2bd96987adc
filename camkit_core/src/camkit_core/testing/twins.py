"""The same function in other clothes: networks whose maps must not, or must, change."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.testing.judge import ensure
from camkit_core.testing.networks import CHANNELS, GapNet, Net

ORDER = [3, 0, 5, 1, 4, 2]
FACTORS = [0.1, 3.0, 1.0, 0.5, 8.0, 2.0]


def _reader(net: Net) -> Any:
    """The first module that reads the explained layer."""
    return net.fc if isinstance(net, GapNet) else net.conv


def _last(net: Net) -> Any:
    """The convolution that writes the explained layer."""
    return net.features[2]


def permuted(net: Net) -> Net:
    """Channels of the layer in another order."""
    net, order = copy.deepcopy(net), torch.tensor(ORDER)
    last, reader = _last(net), _reader(net)
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]
    reader.weight.data = reader.weight.data[:, order]
    return net


def rescaled(net: Net) -> Net:
    """Channel k times s_k, and what reads it divided by s_k."""
    net, s = copy.deepcopy(net), torch.tensor(FACTORS, dtype=torch.float64)
    last, reader = _last(net), _reader(net)
    last.weight.data *= s.reshape(-1, *(1,) * (last.weight.ndim - 1))
    last.bias.data *= s
    reader.weight.data /= s.reshape(1, -1, *(1,) * (reader.weight.ndim - 2))
    return net


def with_logits(net: Net, scale: float = 1.0, shift: float = 0.0) -> Net:
    """Logits times `scale` plus `shift`."""
    net = copy.deepcopy(net)
    fc = net.fc
    fc.weight.data *= scale
    if fc.bias is not None:
        fc.bias.data = fc.bias.data * scale + shift
    return net


def with_more_classes(net: Net) -> Net:
    """Three further classes behind the others, which stay as they are."""
    net = copy.deepcopy(net)
    old = net.fc
    more = nn.Linear(old.in_features, old.out_features + 3).double()
    generator = torch.Generator().manual_seed(5)
    more.weight.data.normal_(0.0, 0.3, generator=generator)
    more.bias.data.normal_(0.0, 0.3, generator=generator)
    more.weight.data[: old.out_features] = old.weight.data
    more.bias.data[: old.out_features] = old.bias.data
    net.fc = more
    return net


def mirrored(net: Net, axis: int) -> Net:
    """All kernels flipped along a spatial axis (-1 is the last)."""
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        if parameter.ndim > 2:
            parameter.data = parameter.data.flip(axis)
    return net


def folded(net: Net, offset: Tensor) -> Net:
    """For images with `offset` `[3]` added: the first layer takes it back (no padding)."""
    net = copy.deepcopy(net)
    first = net.features[0]
    first.bias.data -= torch.einsum("kcij,c->k", first.weight.data, offset)
    return net


def constant_layer(net: Net) -> Net:
    """Every channel the same number at every position, whatever the image."""
    net = copy.deepcopy(net)
    last = _last(net)
    last.weight.data.zero_()
    last.bias.data = torch.linspace(0.2, 1.2, CHANNELS, dtype=torch.float64)
    return net


def dead_layer(net: Net) -> Net:
    """Nothing gets through the layer's ReLU."""
    net = constant_layer(net)
    _last(net).bias.data.fill_(-1.0)
    return net


def dead_class(net: Net, index: int) -> Net:
    """One class has no weights."""
    net = copy.deepcopy(net)
    net.fc.weight.data[index] = 0
    return net


def same_function(net: nn.Module, x: Tensor, other: nn.Module, y: Tensor) -> None:
    """Guard of the kit itself: `net(x) = other(y)`, so that the twin really is one."""
    with torch.no_grad():
        off = float((net(x) - other(y)).abs().max())
    ensure(off < 1e-10, f"the kit's twin networks differ by {off:.3g}: a defect of the kit itself")
