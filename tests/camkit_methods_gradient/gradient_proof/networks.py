"""Small float64 networks, and their activations and gradients without the engine.

Each network is a `features` module followed by a `tail` function, so that the tail can be
differentiated on its own: no hooks, no engine.
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

Score = Callable[[Tensor], Tensor]
"""Output of one image `[K]` to a scalar."""

Array = NDArray[np.float64]

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
        bias: biases anywhere.
        circular: wrap around at the borders.
        padding: of every convolution.
    """

    def __init__(
        self,
        dims: int = 2,
        *,
        signed: bool = False,
        bias: bool = True,
        circular: bool = False,
        padding: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dims, self.bias = dims, bias
        self.options = {
            "bias": bias,
            "padding": padding,
            "padding_mode": "circular" if circular else "zeros",
        }
        last: nn.Module = nn.Identity() if signed else nn.ReLU()
        self.features: nn.Module = nn.Sequential(
            CONV[dims](3, 4, 3, **self.options),
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
        """Whatever must happen after the weights are there."""

    def tail(self, a: Tensor) -> Tensor:
        """Logits of activations."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.tail(self.features(x))


class GapNet(Split):
    """Global average pooling and one linear layer."""

    def build(self) -> None:
        self.fc = nn.Linear(CHANNELS, CLASSES, bias=self.bias)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(2).mean(-1))


class FlatNet(Split):
    """One linear layer on the flattened activations: its own weight per position."""

    def build(self) -> None:
        cells = int(np.prod(SIZES[self.dims]))
        self.fc = nn.Linear(CHANNELS * cells, CLASSES, bias=self.bias)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(1))


class DeepNet(Split):
    """Convolution and ReLU after the layer, then pooling: gradients differ between positions."""

    def build(self) -> None:
        self.conv = CONV[self.dims](CHANNELS, 8, 3, **self.options)
        self.fc = nn.Linear(8, CLASSES, bias=self.bias)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv(a)).flatten(2).mean(-1))


class SmoothNet(DeepNet):
    """As `DeepNet`, with curvature everywhere."""

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(functional.softplus(self.conv(a)).flatten(2).mean(-1))


class BnNet(DeepNet):
    """`features` ends in a batch normalisation with statistics of its own: signed activations."""

    def build(self) -> None:
        super().build()
        self.features = nn.Sequential(
            CONV[self.dims](3, CHANNELS, 3, **self.options), NORM[self.dims](CHANNELS)
        )

    def finish(self) -> None:
        norm = self.features[1]  # type: ignore[index]
        norm.weight.data = norm.weight.data.abs() + 0.5
        norm.running_mean.copy_(torch.linspace(-0.4, 0.4, CHANNELS))
        norm.running_var.copy_(torch.linspace(0.5, 2.0, CHANNELS))

    def tail(self, a: Tensor) -> Tensor:
        return super().tail(functional.relu(a))


class WallNet(Split):
    """Class 0 reads the left half of the last axis only; the other classes read everything."""

    def build(self) -> None:
        cells = int(np.prod(SIZES[self.dims]))
        self.left_cells = cells // SIZES[self.dims][-1] * self.half
        self.left = nn.Linear(CHANNELS * self.left_cells, 7)
        self.whole = nn.Linear(CHANNELS * cells, 7)
        self.fc = nn.Linear(7, CLASSES)

    @property
    def half(self) -> int:
        """Number of columns that class 0 reads."""
        return SIZES[self.dims][-1] // 2

    def tail(self, a: Tensor) -> Tensor:
        near = self.fc(torch.tanh(self.left(a[..., : self.half].flatten(1))))
        far = self.fc(torch.tanh(self.whole(a.flatten(1))))
        return torch.cat([near[:, :1], far[:, 1:]], 1)


class QuadraticNet(Split):
    """`y_c = b_c . z + 1/2 z^T Q_c z` of the pooled activations z."""

    def build(self) -> None:
        self.linear = nn.Parameter(torch.zeros(CLASSES, CHANNELS))
        self.square = nn.Parameter(torch.zeros(CLASSES, CHANNELS, CHANNELS))

    def finish(self) -> None:
        self.square.data = 3 * (self.square.data + self.square.data.transpose(1, 2))

    def tail(self, a: Tensor) -> Tensor:
        z = a.flatten(2).mean(-1)
        return z @ self.linear.T + torch.einsum("nk,ckl,nl->nc", z, self.square, z) / 2


class Given(Split):
    """The activations are the input itself (through a fixed 1x1 convolution)."""

    def build(self) -> None:
        self.features = CONV[self.dims](CHANNELS, CHANNELS, 1, bias=False)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def finish(self) -> None:
        one = torch.eye(CHANNELS, dtype=torch.float64)
        self.features.weight.data = one.reshape(CHANNELS, CHANNELS, *(1,) * self.dims)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(2).mean(-1))


class GivenQuadratic(QuadraticNet, Given):
    """A quadratic tail on activations chosen by the test."""

    def build(self) -> None:
        Given.build(self)
        QuadraticNet.build(self)

    def finish(self) -> None:
        Given.finish(self)
        QuadraticNet.finish(self)


class GivenFlat(Given):
    """A smooth tail with its own weight per position, on activations chosen by the test."""

    def build(self) -> None:
        super().build()
        cells = int(np.prod(SIZES[self.dims]))
        self.fc = nn.Linear(CHANNELS * cells, CLASSES)

    def tail(self, a: Tensor) -> Tensor:
        return torch.tanh(self.fc(a.flatten(1)))


def given(seed: int = 0, n: int = 2, dims: int = 2) -> Tensor:
    """Activations for the `Given` networks, `[n, CHANNELS, *S]`."""
    generator = torch.Generator().manual_seed(2000 + seed)
    return torch.randn(n, CHANNELS, *SIZES[dims], generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Parts:
    """What the references are computed from; NumPy, `[N, K, *S]`."""

    a: Array
    g: Array
    ha: Array
    score: Array  # [N]


def as_scores(targets: Sequence[int | Score]) -> list[Score]:
    """Class indices as callables."""

    def pick(index: int) -> Score:
        return lambda output: output[index]

    return [pick(target) if isinstance(target, int) else target for target in targets]


def parts(net: Split, x: Tensor, targets: Sequence[int | Score]) -> Parts:
    """Activations, gradients and Hessian times activations, from `features` and `tail` alone."""
    scores = as_scores(targets)

    def total(a: Tensor) -> Tensor:
        rows = zip(scores, net.tail(a), strict=True)
        return torch.stack([score(row) for score, row in rows]).sum()

    with torch.no_grad():
        a = net.features(x)
        rows = net.tail(a)
        value = torch.stack([score(row) for score, row in zip(scores, rows, strict=True)])
    leaf = a.clone().requires_grad_()
    (g,) = torch.autograd.grad(total(leaf), leaf)
    ha = torch.autograd.functional.hvp(total, a.clone(), a.clone())[1]
    return Parts(a.numpy(), g.numpy(), ha.numpy(), value.numpy())


def log_probability(index: int) -> Score:
    """Log-softmax of one class: a score with curvature on any network."""
    return lambda output: functional.log_softmax(output, -1)[index]


def margin(index: int, other: int, share: float = 0.6) -> Score:
    """`y_index - share * y_other`: linear in the logits."""
    return lambda output: output[index] - share * output[other]
