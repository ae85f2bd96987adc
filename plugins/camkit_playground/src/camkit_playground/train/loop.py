"""The training loop: binary cross entropy, AdamW, a warm-up and a cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from camkit_playground.networks import build
from camkit_playground.train.data import batches, draw_pool
from camkit_playground.train.recipes import Recipe


def fit(name: str, recipe: Recipe, tell: Callable[[str], None]) -> nn.Module:
    """The trained network in eval mode."""
    images, labels = draw_pool(recipe.draw, recipe.scenes, "train", tell=tell)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build(name).train()
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(_groups(model, recipe.decay), lr=recipe.rate)
    steps = recipe.epochs * (recipe.scenes // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_at(step / steps, recipe.warmup)
    )
    started = time.perf_counter()
    for epoch in range(recipe.epochs):
        total = torch.zeros(())
        for pictures, wanted in batches(images, labels, recipe.batch, generator):
            loss = functional.binary_cross_entropy_with_logits(model(pictures), wanted)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        mean = float(total) / (recipe.scenes // recipe.batch)
        spent = time.perf_counter() - started
        tell(f"{name}: epoch {epoch + 1} of {recipe.epochs}, loss {mean:.4f}, {spent:.0f} s")
    return model.eval()


def rate_at(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at a share of the steps."""
    if progress < warmup:
        return progress / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only."""
    trained = list(model.parameters())
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
