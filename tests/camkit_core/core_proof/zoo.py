"""Tiny networks, each with one habit that a copy of a model could get wrong."""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from core_proof.networks import CLASSES, fill


class Base(nn.Module):
    """`layer` and `late` are always there; `middle` is what differs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.late = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)

    def middle(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def forward(self, x: Tensor) -> Any:
        z = self.late(self.middle(self.layer(x)))
        return self.head(F.silu(z).flatten(2).mean(2))


class Residual(Base):
    def middle(self, z):
        return F.relu(z) + z


class Lists(Base):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(6, 6, 1) for _ in range(3))
        self.named = nn.ModuleDict({"a": nn.Tanh(), "b": nn.Sequential(nn.Conv2d(6, 6, 1))})

    def middle(self, z):
        for block in self.blocks:
            z = z + block(z)
        return self.named["b"](self.named["a"](z))


class Shared(Base):
    """One module under three names, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(6, 6, 1)
        self.two = self.one
        self.block = nn.Sequential(self.one, nn.Tanh())

    def middle(self, z):
        return self.block(self.two(self.one(z)))


class Tied(Base):
    """Two layers with the same parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.again.weight = self.late.weight

    def middle(self, z):
        return self.again(z)


class Norms(Base):
    def __init__(self) -> None:
        super().__init__()
        self.batch = nn.BatchNorm2d(6)
        self.group = nn.GroupNorm(2, 6)
        self.drop = nn.Dropout(0.5)
        self.instance = nn.InstanceNorm2d(6)

    def middle(self, z):
        z = F.dropout(self.drop(self.batch(z)), 0.5, training=self.training)
        return self.instance(self.group(z)) + z


class Recurrent(Base):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(6, 6, batch_first=True)

    def middle(self, z):
        n, c, h, w = z.shape
        seen, _ = self.rows(z.permute(0, 2, 3, 1).reshape(n * h, w, c))
        return seen.reshape(n, h, w, c).permute(0, 3, 1, 2)


class Attentive(Base):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def middle(self, z):
        tokens = z.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return (tokens + mixed).transpose(1, 2).unflatten(2, z.shape[2:])


class Encoder(Base):
    """Transformer layers, which have a fused path of their own without gradients."""

    def __init__(self) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)

    def middle(self, z):
        tokens = self.encoder(z.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, z.shape[2:])


class Parametrized(Base):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.layer)
        self.more = parametrizations.spectral_norm(nn.Conv2d(6, 6, 3, padding=1))

    def middle(self, z):
        return self.more(z)


class Parameters(Base):
    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(6, 1, 1)) for _ in range(2))
        self.shifts = nn.ParameterDict({"a": nn.Parameter(torch.ones(6, 1, 1))})
        self.bare = nn.Parameter(torch.ones(6, 1, 1))
        self.register_buffer("offset", torch.full((6, 1, 1), 0.25))

    def middle(self, z):
        return z * self.gains[1] + self.shifts["a"] * self.bare - self.offset


class Dynamic(Base):
    """Looks its layers up by name, and reads its own methods through the class."""

    def middle(self, z):
        steps = {"tanh": self.bend, "late": getattr(self, "la" + "te")}
        return steps["late"](steps["tanh"](z))

    def bend(self, z):
        return torch.tanh(type(self).scale(z))

    @staticmethod
    def scale(z):
        return 1.5 * z


class Slotted(Base):
    """Attributes behind properties and `__getattr__`."""

    def __init__(self) -> None:
        super().__init__()
        self._gain = 2.0

    @property
    def gain(self) -> float:
        return self._gain

    def __getattr__(self, name: str) -> Any:
        return self._gain / 4 if name == "quarter" else super().__getattr__(name)

    def middle(self, z):
        return torch.tanh(z * self.gain * self.quarter)


class CallsItself(Base):
    """Overrides `__call__`, as wrappers do."""

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs) * 2


class Checkpointed(Base):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Tanh())

    def middle(self, z):
        return checkpoint(self.body, z, use_reentrant=False)


class Container(nn.Sequential):
    """A model that is itself a container, with nothing of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.bend = nn.Tanh()
        self.late = nn.Conv2d(6, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(6, CLASSES)


class PatchedMethod(Base):
    """`forward` of the model and of a layer replaced by bound methods."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = types.MethodType(lambda s, x: -Base.forward(s, x), self)
        old = type(self.layer).forward
        self.layer.forward = types.MethodType(lambda s, x: old(s, x) + 1, self.layer)


class Writing(Base):
    """Keeps things of the last call on itself."""

    def middle(self, z):
        self.seen = z
        self.count = getattr(self, "count", 0) + 1
        return torch.tanh(z)


class Optional(Base):
    """A missing child, as many libraries have them."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = None
        self.register_module("none", None)
        self.register_parameter("unset", None)


class Keyword(Base):
    def middle(self, z):
        return self.late(input=z)


class Partial(Base):
    """Holds functions of its own in a partial."""

    def __init__(self) -> None:
        super().__init__()
        self.step = functools.partial(F.leaky_relu, negative_slope=0.2)

    def middle(self, z):
        return self.step(z)


ZOO: tuple[type[nn.Module], ...] = (
    *(Base, Residual, Lists, Tied, Norms, Recurrent, Attentive, Encoder, Parametrized),
    *(Parameters, Slotted, CallsItself, Checkpointed, Container, PatchedMethod, Writing),
    *(Optional, Partial, Shared),
)
"""Networks whose layers `layer` and `late` run once each."""

TWICE = (Dynamic, Keyword)
"""Networks that call `late` twice."""


def build(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    return fill(kind(), seed).eval()
