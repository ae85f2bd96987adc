"""The same networks with other layouts, names and structure around them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.testing.networks import SIZES, Net


class Tokens(Net):
    """The activations of another network as tokens `[N, prefix + T, C]`, class token first.

    The prefix tokens hold large values of their own, which nothing reads.
    """

    def __init__(self, inner: Net, prefix: int) -> None:
        nn.Module.__init__(self)
        self.inner, self.prefix, self.dims = inner, prefix, inner.dims
        self.features = _ToTokens(inner.features, prefix)
        self.eval()

    def tail(self, a: Tensor) -> Tensor:
        """The inner tail, on the grid."""
        grid = a[:, self.prefix :].transpose(1, 2)
        return self.inner.tail(grid.unflatten(2, SIZES[self.dims]))


class _ToTokens(nn.Module):
    def __init__(self, inner: nn.Module, prefix: int) -> None:
        super().__init__()
        self.inner, self.prefix = inner, prefix

    def forward(self, x: Tensor) -> Tensor:
        """Tokens."""
        tokens = self.inner(x).flatten(2).transpose(1, 2)
        extra = tokens.new_full((len(tokens), self.prefix, tokens.shape[2]), 7.0)
        return torch.cat([extra, tokens], 1)


class ChannelsLastNet(Net):
    """The activations of another network as `[N, *S, C]`."""

    def __init__(self, inner: Net) -> None:
        nn.Module.__init__(self)
        self.inner, self.dims = inner, inner.dims
        self.features = nn.Sequential(inner.features, _MoveAxis())
        self.eval()

    def tail(self, a: Tensor) -> Tensor:
        """The inner tail."""
        return self.inner.tail(a.movedim(-1, 1))


class _MoveAxis(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Channels last."""
        return x.movedim(1, -1)


class Decoyed(nn.Module):
    """A network whose layer is called `here`, between two others of the same shape.

    `before` and `after` hand the activations on upside down, `here` as they are.
    """

    def __init__(self, inner: Net) -> None:
        super().__init__()
        self.inner = inner
        self.before, self.here, self.after = Flipped(), Flipped(), Flipped()

    def forward(self, x: Tensor) -> Tensor:
        """The inner network's answer."""
        a = self.here(self.before(self.inner.features(x)))
        return self.inner.tail(self.after(a).flip(-1))


class Flipped(nn.Module):
    """Its input, flipped along the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """A new tensor."""
        return x.flip(-1)


class Boxed(nn.Module):
    """The same network with everything behind the layer in one module."""

    def __init__(self, inner: Net) -> None:
        super().__init__()
        self.features, self.rest = inner.features, _Rest(inner)

    def forward(self, x: Tensor) -> Any:
        """The inner network's answer."""
        return self.rest(self.features(x))


class _Rest(nn.Module):
    def __init__(self, inner: Net) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, a: Tensor) -> Any:
        """The tail."""
        return self.inner.tail(a)
