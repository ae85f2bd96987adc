"""A small vision transformer in float64, and its attention and gradients without the engine."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradient_proof.networks import CLASSES, Array, fill

WIDTH, HEADS, GRID = 8, 2, (3, 4)


class Attention(nn.Module):
    """Multi-head attention by PyTorch's fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a small network around two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Patches behind `prefix` tokens; classifies by the first token or by the mean of patches."""

    def __init__(self, depth: int = 3, prefix: int = 1, pool: str = "class", seed: int = 0) -> None:
        super().__init__()
        self.prefix, self.pool = prefix, pool
        self.patch = nn.Conv2d(3, WIDTH, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, prefix + math.prod(GRID), WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm, self.fc = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        self.double().eval()
        fill(self, seed)

    def embed(self, x: Tensor) -> Tensor:
        tokens = F.pad(self.patch(x).flatten(2).mT, (0, 0, self.prefix, 0))
        return tokens + self.place

    def tail(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        found = tokens[:, 0] if self.pool == "class" else tokens[:, self.prefix :].mean(1)
        return self.fc(found)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens)
        return self.tail(tokens)


class Tokens:
    """The reshape of a `Transformer`."""

    def __init__(self, prefix: int = 1) -> None:
        self.prefix = prefix

    def to_spatial(self, output: Any, /) -> Tensor:
        found: Tensor = output[:, self.prefix :].mT.unflatten(2, GRID)
        return found

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        return torch.cat([like[:, : self.prefix], maps.flatten(2).mT], 1)


@dataclass
class Part:
    """One block's arrays `[N, ...]`: p, q, k, v, o by head; h what the block returns; g_ gradients.

    g_exit is the gradient at p of the score that the block's own mean token would have.
    """

    p: Array
    g_p: Array
    q: Array
    k: Array
    v: Array
    g_o: Array
    h: Array
    g_h: Array
    g_exit: Array
    g_own: Array


def pictures(n: int = 2, seed: int = 0) -> Tensor:
    """`[n, 3, 6, 8]`."""
    generator = torch.Generator().manual_seed(70 + seed)
    return torch.randn(n, 3, 6, 8, generator=generator, dtype=torch.float64)


def parts(net: Transformer, x: Tensor, target: int) -> list[Part]:
    """Every block by plain PyTorch, on a copy whose attention is written out."""
    net, seen = copy.deepcopy(net), list[Any]()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p = (q @ k.mT / math.sqrt(WIDTH / HEADS)).softmax(-1)
        seen.append((p, q, k, v, p @ v))
        return seen[-1][-1]  # type: ignore[no-any-return]

    tokens, states = net.embed(x), list[Tensor]()
    for block in net.blocks:
        block.attention.attend = attend
        tokens = block(tokens)
        states.append(tokens)
    score = net.tail(tokens)[:, target].sum()
    slope = lambda y, at: torch.autograd.grad(y, at, retain_graph=True)[0]  # noqa: E731
    found = []
    for (p, q, k, v, o), h in zip(seen, states, strict=True):
        mean = h.mean(1, keepdim=True).expand_as(h)
        exits = [net.tail(one)[:, target].sum() for one in (mean, h)]
        slopes = [slope(score, p), slope(score, o), slope(score, h)]
        slopes += [slope(one, p) for one in exits]
        arrays = [t.detach().numpy() for t in (p, q, k, v, h, *slopes)]
        p_, q_, k_, v_, h_, g_p, g_o, g_h, g_exit, g_own = arrays
        found.append(Part(p_, g_p, q_, k_, v_, g_o, h_, g_h, g_exit, g_own))
    return found
