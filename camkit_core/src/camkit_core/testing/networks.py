"""Tiny seeded networks in float64, made so that what must hold can be known without any engine.

Each is a `features` module followed by a `tail` function: `forward = tail(features(x))`. The layer
that is explained is `features`; its activations and gradients follow from the two halves alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Score = Callable[[Tensor], Tensor]
"""Output of one image `[K]` to a scalar."""

LAYER = "features"
SIZES: dict[int, tuple[int, ...]] = {1: (31,), 2: (5, 8), 3: (3, 4, 5)}
CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CHANNELS = 6
CLASSES = 5


def fill(net: nn.Module, seed: int) -> None:
    """Seeded weights of unit gain and clearly non-zero biases, without the global generator."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        spread = 1.4 / (parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 0.3
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_(spread * drawn)


def images(n: int = 2, dims: int = 2, seed: int = 0, size: Sequence[int] | None = None) -> Tensor:
    """`[n, 3, *S]`, standard normal, float64."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(n, 3, *(size or SIZES[dims]), generator=generator, dtype=torch.float64)


class Net(nn.Module):
    """`forward = tail(features(x))`; subclasses write the tail.

    Args:
        dims: number of spatial axes.
        signed: leave negative activations at the end of `features`.
        bias: biases anywhere.
        circular: wrap around at the borders.
        padding: of every convolution.
        stride: of the first convolution.
    """

    features: Any
    conv: Any
    fc: Any

    def __init__(
        self,
        dims: int = 2,
        *,
        signed: bool = False,
        bias: bool = True,
        circular: bool = False,
        padding: int = 1,
        stride: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dims, self.bias = dims, bias
        self.options: dict[str, Any] = {
            "bias": bias,
            "padding": padding,
            "padding_mode": "circular" if circular else "zeros",
        }
        last: nn.Module = nn.Identity() if signed else nn.ReLU()
        self.features = nn.Sequential(
            CONV[dims](3, 4, 3, stride=stride, **self.options),
            nn.ReLU(),
            CONV[dims](4, CHANNELS, 3, **self.options),
            last,
        )
        self.build()
        self.double().eval()
        fill(self, seed)
        self.finish()

    def build(self) -> None:
        """Modules of the tail."""

    def finish(self) -> None:
        """Whatever must happen once the weights are there."""

    def tail(self, a: Tensor) -> Tensor:
        """Logits `[N, K]` of activations."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        """Logits of images."""
        return self.tail(self.features(x))


class GapNet(Net):
    """Global average pooling and one linear layer: Grad-CAM is CAM divided by the positions."""

    def build(self) -> None:
        """The linear layer."""
        self.fc = nn.Linear(CHANNELS, CLASSES, bias=self.bias)

    def tail(self, a: Tensor) -> Tensor:
        """Pooled and weighted."""
        return self.fc(a.flatten(2).mean(-1))  # type: ignore[no-any-return]


class DeepNet(Net):
    """Convolution and ReLU after the layer, then pooling: gradients differ between positions."""

    def build(self) -> None:
        """A convolution and a linear layer."""
        self.conv = CONV[self.dims](CHANNELS, 8, 3, **self.options)
        self.fc = nn.Linear(8, CLASSES, bias=self.bias)

    def act(self, z: Tensor) -> Tensor:
        """What comes between the convolution and the pooling."""
        return functional.relu(z)

    def tail(self, a: Tensor) -> Tensor:
        """Convolved, rectified, pooled and weighted."""
        return self.fc(self.act(self.conv(a)).flatten(2).mean(-1))  # type: ignore[no-any-return]


class SmoothNet(DeepNet):
    """As `DeepNet`, with curvature everywhere."""

    def act(self, z: Tensor) -> Tensor:
        """Softplus."""
        return functional.softplus(z)


class SkipNet(DeepNet):
    """The layer is read twice: by a convolution, and by a path around it."""

    def tail(self, a: Tensor) -> Tensor:
        """The convolution's result and the layer's own output reach the classes."""
        z = torch.cat([self.act(self.conv(a)), a], 1)
        pooled = z.flatten(2).mean(-1)
        return self.fc(pooled[:, :8]) + 2 * pooled[:, 8:].roll(1, 1)[:, :CLASSES]  # type: ignore[no-any-return]


class InplaceNet(SmoothNet):
    """What follows the layer overwrites its output."""

    def tail(self, a: Tensor) -> Tensor:
        """The same function as `DoubledNet`."""
        a.mul_(2.0).add_(0.5)
        return super().tail(a)


class DoubledNet(SmoothNet):
    """As `InplaceNet`, with nothing overwritten."""

    def tail(self, a: Tensor) -> Tensor:
        """A new tensor."""
        return super().tail(a * 2.0 + 0.5)


class DropoutNet(DeepNet):
    """A network whose answer is random in training mode."""

    def build(self) -> None:
        """Dropout besides."""
        super().build()
        self.drop = nn.Dropout(0.5)
        self.norm = NORM[self.dims](CHANNELS)

    def finish(self) -> None:
        """Statistics of its own."""
        self.norm.running_mean.copy_(torch.linspace(-0.2, 0.2, CHANNELS))
        self.norm.running_var.copy_(torch.linspace(0.5, 2.0, CHANNELS))

    def tail(self, a: Tensor) -> Tensor:
        """Dropout and batch normalisation before the convolution."""
        return super().tail(self.drop(self.norm(a)))


class AttentionNet(DeepNet):
    """Two blocks of attention between all positions follow the layer; then pooling.

    Without an embedding of places, so that moving the picture moves everything with it.
    """

    def build(self) -> None:
        """A convolution, the blocks and a linear layer."""
        super().build()
        self.blocks = nn.Sequential(Attend(8, heads=2), Attend(8, heads=2))

    def act(self, z: Tensor) -> Tensor:
        """The blocks."""
        return self.blocks(z)  # type: ignore[no-any-return]


class Attend(nn.Module):
    """`x + attention(x)` over the positions of `[N, C, *S]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; random in training mode."""
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        drop = 0.5 * self.training
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        change = self.project(mixed.transpose(1, 2).flatten(2))
        moved: Tensor = change.transpose(1, 2).reshape(x.shape)
        return x + moved


class WallNet(Net):
    """Class 0 reads the left half of the last axis only; the other classes read everything."""

    def build(self) -> None:
        """One linear layer for the half, one for the whole."""
        cells = math.prod(SIZES[self.dims])
        self.wall = SIZES[self.dims][-1] // 2
        self.left = nn.Linear(CHANNELS * cells // SIZES[self.dims][-1] * self.wall, 7)
        self.whole = nn.Linear(CHANNELS * cells, 7)
        self.fc = nn.Linear(7, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        """The wall stands between the halves of class 0."""
        near = self.fc(torch.tanh(self.left(a[..., : self.wall].flatten(1))))
        far = self.fc(torch.tanh(self.whole(a.flatten(1))))
        return torch.cat([near[:, :1], far[:, 1:]], 1)


class SwitchNet(GapNet):
    """Answers class 0 on given images, and class 1 as soon as enough of them is taken away."""

    def finish(self) -> None:
        """Whatever is there speaks for class 0 and against class 1."""
        w, b = self.fc.weight.data, self.fc.bias.data
        w[0], w[1] = w[0].abs() + 0.1, -w[1].abs() - 0.1
        w[2:], b[:] = w[2:] * 0.01, 0.0

    def balance(self, x: Tensor) -> None:
        """Put the tipping point a twentieth of the way from these images to nothing."""
        full, bare = self(x), self(torch.zeros_like(x))
        least, most = (full[:, 0] - full[:, 1]).min(), (bare[:, 0] - bare[:, 1]).max()
        self.fc.bias.data[1] += 0.95 * least + 0.05 * most


def halves(net: Net, x: Tensor, targets: Sequence[int | Score]) -> tuple[Tensor, Tensor]:
    """Activations and gradients `[N, C, *S]` at the layer, from the two halves, without hooks."""
    with torch.enable_grad():
        a = net.features(x).detach().requires_grad_()
        rows = net.tail(a if not isinstance(net, InplaceNet) else a.clone())
        total = torch.stack([as_score(t)(row) for t, row in zip(targets, rows, strict=True)]).sum()
        (g,) = torch.autograd.grad(total, a)
    return a.detach(), g


def as_score(target: int | Score) -> Score:
    """A class index as a function of one image's output."""
    return target if callable(target) else lambda output: output[target]


def log_probability(index: int) -> Score:
    """Log-softmax of one class: a score with curvature."""
    return lambda output: functional.log_softmax(output, -1)[index]


def margin(index: int, other: int, share: float = 0.6) -> Score:
    """`y_index - share * y_other`."""
    return lambda output: output[index] - share * output[other]
