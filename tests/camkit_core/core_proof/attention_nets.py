"""Small transformers in float64 whose attention is written in many ways, and an oracle for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camkit_core.protocols import Reshape
from core_proof.networks import CLASSES, fill

WIDTH, HEADS = 8, 2
GRID = (3, 5)
SIZE = (6, 10)

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values `[N, heads, T, D]` to `[N, heads, T, D]`."""


def written(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The definition."""
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def _products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    weights = torch.softmax(torch.bmm(q * q.shape[-1] ** -0.5, k.mT), dim=2)
    return torch.bmm(F.dropout(weights, 0.5, training=False), v).unflatten(0, (-1, HEADS))


def _einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhij, bhjd -> bhid", nn.Softmax(-1)(scores), v)


def _converted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
    return torch.matmul(F.softmax(scores, dim=-1).to(q.dtype).contiguous().clone(), v)


FORMS: dict[str, Attend] = {
    "fused": F.scaled_dot_product_attention,
    "written": written,
    "products": _products,
    "einsum": _einsum,
    "converted": _converted,
}


class Attention(nn.Module):
    """Queries, keys, values; attention by a function; projection."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a small network, each around a path of its own."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(WIDTH), Attention(attend)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.mlp(x)


class Vit(nn.Module):
    """Patches, `prefix` further tokens, blocks, norm; the class is read as `pool` says."""

    def __init__(
        self,
        attend: Attend = F.scaled_dot_product_attention,
        *,
        blocks: nn.Module | None = None,
        depth: int = 2,
        prefix: int = 1,
        pool: str = "first",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.prefix, self.pool = prefix, pool
        self.patch = nn.Conv2d(3, WIDTH, 2, stride=2)
        if prefix:
            self.extra = nn.Parameter(torch.zeros(1, prefix, WIDTH))
        self.place = nn.Parameter(torch.zeros(1, prefix + math.prod(GRID), WIDTH))
        self.blocks = blocks or nn.Sequential(*(Block(attend) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        fill(self, seed)
        self.eval()

    def embed(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        if self.prefix:
            tokens = torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1)
        return tokens + self.place

    def finish(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        found = tokens[:, 0] if self.pool == "first" else tokens[:, self.prefix :].mean(1)
        return self.head(found)

    def forward(self, x: Tensor) -> Any:
        return self.finish(self.blocks(self.embed(x)))


class Grid:
    """Tokens behind a prefix as a picture, rows first."""

    def __init__(self, prefix: int = 1, grid: tuple[int, ...] = GRID) -> None:
        self.prefix, self.grid = prefix, grid

    def to_spatial(self, output: Tensor, /) -> Tensor:
        return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        return torch.cat([like[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)


def grid(prefix: int = 1) -> Reshape:
    """The reshape of a `Vit`."""
    return Grid(prefix)


@dataclass
class Seen:
    """One block's attention, from the oracle."""

    weights: Tensor
    gradients: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    output: Tensor
    output_gradients: Tensor
    tokens: Tensor
    token_gradients: Tensor


class WrittenMulti(nn.MultiheadAttention):
    """The same parameters, the definition."""

    attend: Attend

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **words: Any) -> Any:  # type: ignore[override]
        x = query if self.batch_first else query.transpose(0, 1)
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        found = self.out_proj(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return (found if self.batch_first else found.transpose(0, 1)), None


def oracle(net: Vit, x: Tensor, target: int) -> list[Seen]:
    """Every block's attention and gradients, by plain PyTorch on a copy that writes it out."""
    twin, found = copy.deepcopy(net), list[tuple[Tensor, ...]]()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        found.append((weights, q, k, v, weights @ v))
        return found[-1][-1]

    for module in twin.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.__class__ = WrittenMulti
        if isinstance(module, Attention | nn.MultiheadAttention):
            module.attend = attend  # type: ignore[assignment]
    tokens: list[Tensor] = []
    for block in dict.fromkeys(twin.blocks.children()):
        block.register_forward_hook(lambda module, args, output: tokens.append(output))
    with torch.enable_grad():
        score = twin(x)[:, target].sum()
        nodes = [*(one[0] for one in found), *(one[4] for one in found), *tokens]
        slopes = torch.autograd.grad(score, nodes)
    depth = len(found)
    kinds = [m.batch_first for m in net.modules() if isinstance(m, nn.MultiheadAttention)]
    sideways = not all(kinds)
    return [
        Seen(
            weights=weights.detach(),
            gradients=slopes[i],
            queries=q.detach(),
            keys=k.detach(),
            values=v.detach(),
            output=o.detach(),
            output_gradients=slopes[depth + i],
            tokens=tokens[i].detach().transpose(0, 1) if sideways else tokens[i].detach(),
            token_gradients=slopes[2 * depth + i].transpose(0, 1)
            if sideways
            else slopes[2 * depth + i],
        )
        for i, (weights, q, k, v, o) in enumerate(found)
    ]


def pictures(n: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """`[n, 3, 6, 10]`."""
    generator = torch.Generator().manual_seed(500 + seed)
    return torch.randn(n, 3, *SIZE, generator=generator, dtype=torch.float64).to(dtype)
