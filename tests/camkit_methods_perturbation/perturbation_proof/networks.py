"""Small float64 networks whose layer is coarser than the image, and their parts by hand.

Each network is a `features` module followed by a `tail` function, so that every method can be
computed again without the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[np.float64]

SIZES: dict[int, tuple[int, ...]] = {1: (18,), 2: (8, 10), 3: (4, 6, 4)}
CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CHANNELS = 6
CLASSES = 4


def fill(net: nn.Module, seed: int) -> None:
    """Seeded weights of unit gain and clearly non-zero biases, without the global generator."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        spread = 1.4 / (parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 0.3
        with torch.no_grad():
            parameter.copy_(
                spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )


def images(n: int, dims: int = 2, seed: int = 0, size: tuple[int, ...] | None = None) -> Tensor:
    """`[n, 3, *S]`, standard normal."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(n, 3, *(size or SIZES[dims]), generator=generator, dtype=torch.float64)


class Split(nn.Module):
    """`forward = tail(features(x))`; subclasses write the tail.

    Args:
        dims: number of spatial axes.
        signed: leave negative activations at the end of `features`.
        stride: of the first convolution.
        seed: of the weights.
    """

    def __init__(
        self, dims: int = 2, *, signed: bool = False, stride: int = 2, seed: int = 0
    ) -> None:
        super().__init__()
        self.dims = dims
        last: nn.Module = nn.Identity() if signed else nn.ReLU()
        self.features: nn.Module = nn.Sequential(
            CONV[dims](3, 4, 3, padding=1, stride=stride),
            nn.ReLU(),
            CONV[dims](4, CHANNELS, 3, padding=1),
            last,
        )
        self.build()
        self.double().eval()
        fill(self, seed)

    def build(self) -> None:
        """Modules of the tail."""
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        """Logits of activations."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.tail(self.features(x))


class GapNet(Split):
    """Global average pooling and one linear layer."""

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(2).mean(-1))


class DeepNet(Split):
    """Convolution and softplus after the layer, then pooling: nothing is affine."""

    def build(self) -> None:
        self.conv = CONV[self.dims](CHANNELS, 8, 3, padding=1)
        self.fc = nn.Linear(8, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(functional.softplus(self.conv(a)).flatten(2).mean(-1))


class WillingNet(DeepNet):
    """More activation, more score: rectified weights have something left."""

    def __init__(self, dims: int = 2, **options: Any) -> None:
        super().__init__(dims, **options)
        self.fc.weight.data.abs_()
        self.conv.weight.data += 0.15


class TokenNet(Split):
    """Tokens with a class token, mixed by attention: `[N, 1 + P, K]` at `blocks`."""

    def build(self) -> None:
        self.token = nn.Parameter(torch.zeros(2, CHANNELS))
        self.blocks = nn.LayerNorm(CHANNELS)
        self.mix = nn.MultiheadAttention(CHANNELS, 2, batch_first=True)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        tokens = a.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token[:1].expand(len(a), -1, -1), tokens], 1)
        return self.behind(self.blocks(tokens))

    def behind(self, tokens: Tensor) -> Tensor:
        """Logits of normalised tokens."""
        mixed = tokens + self.mix(tokens, tokens, tokens, need_weights=False)[0]
        return self.fc(functional.softplus(mixed)[:, 0])


class Last(nn.Module):
    """`[N, K, H, W]` to `[N, H, W, K]`, and something that works there."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x.permute(0, 2, 3, 1) - 0.2)


class ChannelsLastNet(DeepNet):
    """The layer `last` is channels-last."""

    def build(self) -> None:
        super().build()
        self.last = Last()

    def tail(self, a: Tensor) -> Tensor:
        return super().tail(self.last(a).permute(0, 3, 1, 2))


class TwoLayers(Split):
    """`features` at half, `deep` at a quarter of the resolution."""

    def build(self) -> None:
        self.deep = nn.Sequential(CONV[self.dims](CHANNELS, 5, 3, padding=1, stride=2), nn.ReLU())
        self.fc = nn.Linear(5, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(functional.softplus(self.deep(a)).flatten(2).mean(-1))


class Seen(nn.Module):
    """The score is a fixed linear function of the pixels."""

    def __init__(self, size: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * int(np.prod(size)), CLASSES)
        self.double().eval()
        fill(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Given(nn.Module):
    """The activations are the image's own channels; a smooth score with a weight per pixel."""

    def __init__(self, channels: int, size: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.fc = nn.Linear(channels * int(np.prod(size)), CLASSES)
        self.double().eval()
        fill(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.fc(self.features(x).flatten(1)))


@dataclass(frozen=True)
class Part:
    """What the references of one image are computed from."""

    a: Array  # [K, *S]
    g: Array
    x: Array  # [C, *S]
    f: Callable[[Array], float]  # score of an image
    y: Callable[[Array], float]  # score of activations


def parts(net: Split, x: Tensor, classes: Sequence[int]) -> list[Part]:
    """Activations, gradients and scores of each image, without the engine."""
    return [_part(net, image[None], c) for image, c in zip(x, classes, strict=True)]


def _part(net: Split, x: Tensor, c: int) -> Part:
    a = net.features(x).detach()
    leaf = a.clone().requires_grad_()
    (g,) = torch.autograd.grad(net.tail(leaf)[0, c], leaf)

    def f(image: Array) -> float:
        with torch.no_grad():
            return float(net(torch.from_numpy(image)[None])[0, c])

    def y(activations: Array) -> float:
        with torch.no_grad():
            return float(net.tail(torch.from_numpy(activations)[None])[0, c])

    return Part(a[0].numpy(), g[0].numpy(), x[0].numpy(), f, y)
