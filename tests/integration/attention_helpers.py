"""Transformers of three libraries, run step by step with attention written out, and the methods.

Nothing here uses camkit: blocks are called module by module, and the five methods are written from
their papers' equations once more, in tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import VisionTransformer
from transformers import ViTConfig, ViTForImageClassification

WIDTH, HEADS, DEPTH, CLASSES, PATCH = 16, 2, 3, 5, 8


@dataclass
class Steps:
    """What the blocks did, attached to the graph, and the logits."""

    p: list[Tensor] = field(default_factory=list)  # [N, heads, T, T]
    q: list[Tensor] = field(default_factory=list)  # [N, heads, T, D]
    k: list[Tensor] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)
    o: list[Tensor] = field(default_factory=list)
    h: list[Tensor] = field(default_factory=list)  # [N, T, C]
    first: int = 0  # the first patch

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of `[N, T, C]` projections, noted; `[N, T, C]`."""
        q, k, v = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        p = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        for store, tensor in zip((self.p, self.q, self.k, self.v), (p, q, k, v), strict=True):
            store.append(tensor)
        self.o.append(p @ v)
        return self.o[-1].transpose(1, 2).flatten(2)


def _torchvision(net: VisionTransformer, x: Tensor) -> tuple[Steps, Callable[[Tensor], Tensor]]:
    steps, tokens = Steps(), net._process_input(x)
    tokens = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1)
    tokens = tokens + net.encoder.pos_embedding
    for block in net.encoder.layers:
        own = block.self_attention
        q, k, v = functional.linear(block.ln_1(tokens), own.in_proj_weight, own.in_proj_bias).chunk(
            3, -1
        )
        tokens = tokens + own.out_proj(steps.attend(q, k, v))
        tokens = tokens + block.mlp(block.ln_2(tokens))
        steps.h.append(tokens)
    return steps, lambda t: net.heads(net.encoder.ln(t)[:, 0])


def _timm(net: TimmTransformer, x: Tensor) -> tuple[Steps, Callable[[Tensor], Tensor]]:
    steps, tokens = Steps(), net.norm_pre(net._pos_embed(net.patch_embed(x)))
    for block in net.blocks:
        q, k, v = block.attn.qkv(block.norm1(tokens)).chunk(3, -1)
        tokens = tokens + block.attn.proj(steps.attend(q, k, v))
        tokens = tokens + block.mlp(block.norm2(tokens))
        steps.h.append(tokens)
    return steps, lambda t: net.forward_head(net.norm(t))


def _transformers(net: Any, x: Tensor) -> tuple[Steps, Callable[[Tensor], Tensor]]:
    steps, tokens = Steps(), net.vit.embeddings(x)
    for block in net.vit.layers:
        y, own = block.layernorm_before(tokens), block.attention
        mixed = steps.attend(own.q_proj(y), own.k_proj(y), own.v_proj(y))
        tokens = tokens + own.o_proj(mixed)
        tokens = tokens + block.mlp(block.layernorm_after(tokens))
        steps.h.append(tokens)
    return steps, lambda t: net.classifier(net.vit.layernorm(t)[:, 0])


@dataclass(frozen=True)
class Family:
    """A network with seeded weights, how to step through it, and how its tokens lie."""

    make: Callable[[], nn.Module]
    steps: Callable[[Any, Tensor], tuple[Steps, Callable[[Tensor], Tensor]]]
    size: tuple[int, int] = (32, 32)
    prefix: int = 1
    reads_class: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per axis."""
        return self.size[0] // PATCH, self.size[1] // PATCH

    @property
    def rows(self) -> list[int]:
        """Tokens that the score reads."""
        patches = math.prod(self.grid)
        return [0] if self.reads_class else list(range(self.prefix, self.prefix + patches))


def _tv() -> nn.Module:
    return VisionTransformer(32, PATCH, DEPTH, HEADS, WIDTH, 2 * WIDTH, num_classes=CLASSES)


def _tm(fused: bool = True, **words: Any) -> nn.Module:
    size = words.pop("img_size", 32)
    net = TimmTransformer(size, PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
                          num_classes=CLASSES, **words)  # fmt: skip
    for block in net.blocks:
        block.attn.fused_attn = fused
    return net


def _hf(implementation: str) -> nn.Module:
    config = ViTConfig(
        image_size=32,
        patch_size=PATCH,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        num_labels=CLASSES,
        attn_implementation=implementation,
    )
    return ViTForImageClassification(config)


REGISTERS = {"global_pool": "avg", "class_token": False, "reg_tokens": 3}
FAMILIES: dict[str, Family] = {
    "torchvision": Family(_tv, _torchvision),
    "timm": Family(_tm, _timm),
    "timm, written out": Family(lambda: _tm(fused=False), _timm),
    "timm, averaged, wide": Family(
        lambda: _tm(img_size=(24, 56), global_pool="avg"), _timm, (24, 56), reads_class=False
    ),
    "timm, registers": Family(lambda: _tm(**REGISTERS), _timm, prefix=3, reads_class=False),
    "transformers": Family(lambda: _hf("sdpa"), _transformers),
}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with random weights that make attention differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make().double().eval()
        for name, parameter in net.named_parameters():
            spread = 0.2 if parameter.ndim < 2 else 1.3 / parameter[0].numel() ** 0.5
            base = float(parameter.ndim == 1 and "norm" in name and "weight" in name)
            parameter.data = base + spread * torch.randn_like(parameter)
    return net


def pictures(size: tuple[int, int], n: int = 2, channels: int = 3) -> Tensor:
    """Seeded noise."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, channels, *size, generator=generator, dtype=torch.float64)


# -- the methods, once more ------------------------------------------------------------------------


def _slope(score: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(score.sum(), nodes, retain_graph=True))


def rollout(steps: Steps, score: Tensor, rows: list[int]) -> Tensor:
    """Product of row-normalised `P + I`."""
    eye = torch.eye(steps.p[0].shape[-1], dtype=score.dtype)
    flow = eye
    for p in steps.p:
        step = p.mean(1) + eye
        flow = step / step.sum(-1, keepdim=True) @ flow
    return flow[:, rows].mean(1)


def chefer(steps: Steps, score: Tensor, rows: list[int]) -> Tensor:
    """`R += mean relu(G * P) R`, without the identity of the start."""
    eye = torch.eye(steps.p[0].shape[-1], dtype=score.dtype)
    relevance = eye
    for p, g in zip(steps.p, _slope(score, steps.p), strict=True):
        relevance = relevance + (g * p).clamp(min=0).mean(1) @ relevance
    return (relevance - eye)[:, rows].mean(1)


def gradeclip(steps: Steps, score: Tensor, rows: list[int]) -> Tensor:
    """Of the last block; prefix tokens have zero."""
    q, k, v = (t[-1].transpose(1, 2).flatten(2) for t in (steps.q, steps.k, steps.v))
    (g,) = _slope(score, [steps.o[-1]])
    g = g.transpose(1, 2).flatten(2)
    found = torch.zeros(k.shape[:2], dtype=k.dtype)
    patches = slice(steps.first, None)
    for row in rows:
        cos = functional.cosine_similarity(q[:, row, None], k[:, patches], dim=-1)
        low, high = cos.amin(1, keepdim=True), cos.amax(1, keepdim=True)
        found[:, patches] += (cos - low) / (high - low) * (g[:, row, None] * v[:, patches]).sum(-1)
    return found.clamp(min=0)


def attcat(steps: Steps, score: Tensor, rows: list[int]) -> Tensor:
    """Attention received times gradient times token."""
    slopes = _slope(score, steps.h)
    return sum(
        p.mean((1, 2)) * (g * h).sum(-1) for p, g, h in zip(steps.p, slopes, steps.h, strict=True)
    )


def timm_model(name: str, **words: Any) -> nn.Module:
    """A named network of timm with random weights."""
    return timm.create_model(name, pretrained=False, **words)
