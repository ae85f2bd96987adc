"""Small float64 networks whose activations and gradients are known without the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES: dict[int, tuple[int, ...]] = {1: (23,), 2: (7, 10), 3: (4, 6, 5)}
CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CLASSES = 5


def fill(net: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Seeded weights of unit gain, without the global generator."""
    net.to(dtype)
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        spread = 1.6 / (parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 0.3
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_(spread * drawn)
    return net


def images(
    n: int = 2, dims: int = 2, seed: int = 0, channels: int = 3, dtype: torch.dtype = torch.float64
) -> Tensor:
    """`[n, channels, *S]`: noise around a color of each image's own, so that classes differ."""
    generator = torch.Generator().manual_seed(1000 + seed)
    size = SIZES[dims]
    color = torch.randn(n, channels, *[1] * dims, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, channels, *size, generator=generator, dtype=torch.float64)
    return (noise + 1.5 * color).to(dtype)


class Chain(nn.Module):
    """Three convolutions with a smooth activation between, average pooling, a linear layer.

    The layers are `stem`, `body`, `neck`; what they return is before the activation. `cut` runs
    the chain in two halves, so that the second half can be differentiated without any hook.
    """

    order = ("stem", "body", "neck")

    def __init__(self, dims: int = 2, width: int = 6, seed: int = 0) -> None:
        super().__init__()
        conv = CONV[dims]
        self.stem = conv(3, width, 3, padding=1)
        self.body = conv(width, width, 3, stride=2, padding=1)
        self.neck = conv(width, width, 3, padding=1)
        self.head = nn.Linear(width, CLASSES)
        fill(self, seed)
        self.eval()

    def act(self, z: Tensor) -> Tensor:
        return F.silu(z)

    def finish(self, a: Tensor) -> Any:
        return self.head(a.flatten(2).mean(2))

    def forward(self, x: Tensor) -> Any:
        for name in self.order:
            x = self.act(getattr(self, name)(x))
        return self.finish(x)

    def until(self, layer: str, x: Tensor) -> Tensor:
        """Output of `layer`."""
        for name in self.order:
            z = getattr(self, name)(x)
            if name == layer:
                return z
            x = self.act(z)
        raise AssertionError(layer)

    def after(self, layer: str, z: Tensor) -> Any:
        """Output of the network, from the output of `layer` on."""
        x = self.act(z)
        for name in self.order[self.order.index(layer) + 1 :]:
            x = self.act(getattr(self, name)(x))
        return self.finish(x)


Score = Callable[[Tensor], Tensor]
"""Output of the network to one number per image."""


def of_class(index: int | list[int]) -> Score:
    """Logit of a class, one for all images or one per image."""

    def score(output: Tensor) -> Tensor:
        wanted = [index] * len(output) if isinstance(index, int) else index
        return torch.stack([row[k] for row, k in zip(output, wanted, strict=True)])

    return score


def split(net: Any, x: Tensor, layer: str, score: Score) -> tuple[Tensor, Tensor]:
    """Activations and gradients at a layer of a `Chain`, by two plain halves."""
    with torch.enable_grad():
        leaf = net.until(layer, x).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(net.after(layer, leaf)).sum(), leaf)
    return leaf.detach(), gradient


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Raw Grad-CAM from activations and gradients."""
    axes = tuple(range(2, activations.ndim))
    return (gradients.mean(axes, keepdim=True) * activations).sum(1)


class Backwards(torch.autograd.Function):
    """Affine forward, but its derivative is somebody's invention."""

    @staticmethod
    def forward(ctx, a):
        return 2 * a

    @staticmethod
    def backward(ctx, gradient):
        return -gradient
