"""A small vision transformer that reads its answer from a class token.

Its parts bear the names that are usual for vision transformers (`patch_embed`, `cls_token`,
`blocks.3.norm1`, ...), so whoever knows those networks knows where to look.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from camkit_playground.duo.classes import CLASS_NAMES

PATCH, DIM, DEPTH, HEADS, GRID = 8, 72, 4, 4, 8


class PatchEmbed(nn.Module):
    """`[N, 3, H, W]` to patch tokens `[N, H/8 * W/8, 72]` by three halving convolutions."""

    patch_size = (PATCH, PATCH)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.GELU(),
        )
        self.proj = nn.Conv2d(32, DIM, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens, rows first."""
        tokens: Tensor = self.proj(self.stem(x))
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention; the weights pass through `attn_drop`, where they can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.attn_drop = nn.Identity()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, T, 72]` to the same."""
        count, tokens, _ = x.shape
        split = self.qkv(x).reshape(count, tokens, 3, HEADS, DIM // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (DIM // HEADS) ** -0.5
        weights = self.attn_drop(scores.softmax(-1))
        mixed: Tensor = self.proj((weights @ value).transpose(1, 2).reshape(count, tokens, DIM))
        return mixed


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 3 * DIM), nn.GELU(), nn.Linear(3 * DIM, DIM))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, T, 72]` to the same."""
        x = x + self.attn(self.norm1(x))
        updated: Tensor = x + self.mlp(self.norm2(x))
        return updated


class ViT(nn.Module):
    """`[N, 3, H, W]` to one logit per class `[N, 8]`; H and W are multiples of 8.

    Trained at 64 x 64; for other sizes the position embedding is interpolated.
    """

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID * GRID, DIM))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, len(CLASS_NAMES))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        patches = self.patch_embed(x) + self._positions(grid)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding `[1, T, 72]` for a grid of patches."""
        if grid == (GRID, GRID):
            return self.pos_embed
        square = self.pos_embed.transpose(1, 2).reshape(1, DIM, GRID, GRID)
        resized = functional.interpolate(square, size=grid, mode="bilinear", align_corners=False)
        return resized.flatten(2).transpose(1, 2)
