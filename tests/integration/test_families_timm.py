"""timm's families: small variants with seeded weights, explained with model and image only."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm

from .family_helpers import FIRST, LAST, Family, Size, check, each, tokens


def f(name: str, layer: str, reshape: Any = FIRST, size: Size = (64, 64), **words: Any) -> Family:
    """A family; `ablation`, `slow` and `seed` are about it, all other words are timm's."""
    about = {key: words.pop(key) for key in ("ablation", "slow", "seed") if key in words}
    build = partial(timm.create_model, name, pretrained=False, num_classes=7, **words)
    return Family(name, build, layer, reshape, size, **about)


def vit(name: str, layer: str, prefix: int, *grid: int, patch: int = 16) -> Family:
    """One with tokens, narrow, three blocks deep, told the size of its images."""
    size = tuple(side * patch for side in grid)
    words = {"img_size": size, "embed_dim": 48, "num_heads": 3, "depth": 3}
    return f(name, layer, tokens(prefix, *grid), size, **words)


SIZED: dict[str, Any] = {"img_size": 64, "ablation": False}
SWIN = {**SIZED, "depths": (1, 1, 2, 1)}
SLOW: dict[str, Any] = {"slow": True, "ablation": False}

FAMILIES = (
    f("resnet10t", "layer4", ablation=False),
    f("convnext_atto", "stages", seed=1),
    f("efficientnet_lite0", "bn2", ablation=False),
    f("mobilevit_xxs", "final_conv", ablation=False),
    f("pvt_v2_b0", "stages", seed=1),
    f("poolformer_s12", "stages", ablation=False),
    vit("vit_tiny_patch16_224", "blocks.2.norm1", 1, 4, 4),
    vit("vit_tiny_patch16_224", "blocks.2.norm1", 1, 3, 5),
    vit("deit_tiny_distilled_patch16_224", "blocks.2.norm1", 2, 4, 4),
    vit("vit_small_patch14_reg4_dinov2", "blocks.2.norm1", 5, 4, 4, patch=14),
    vit("vit_base_patch16_siglip_224", "norm", 0, 4, 4),
    vit("vit_base_patch16_clip_224", "blocks.2.norm1", 1, 4, 4),
    vit("beit_base_patch16_224", "blocks.2", 1, 4, 4),
    vit("eva02_tiny_patch14_224", "blocks.2", 1, 4, 4, patch=14),
    vit("cait_xxs24_224", "blocks_token_only.1.norm1", 1, 4, 4),
    f("xcit_nano_12_p16_224", "cls_attn_blocks.1.norm1", tokens(1, 4, 4), **SIZED),
    f("swin_tiny_patch4_window7_224", "norm", LAST, **SWIN),
    f("swinv2_tiny_window8_256", "norm", LAST, window_size=4, **SWIN),
    f("levit_128s", "stages", tokens(0, 4, 4), (224, 224), ablation=False),
    f("coatnet_nano_rw_224", "norm", FIRST, (224, 224), **SLOW),
    f("maxvit_rmlp_pico_rw_256", "norm", FIRST, (256, 256), **SLOW),
    f("mixer_s32_224", "norm", tokens(0, 7, 7), (224, 224), **SLOW),
    f("hiera_tiny_224", "blocks.11", tokens(0, 7, 7), (224, 224), **SLOW),
    f("twins_svt_small", "norm", tokens(0, 2, 2), **SLOW),
    f("davit_tiny", "stages", **SLOW),
    f("focalnet_tiny_srf", "norm", **SLOW),
)


@each(FAMILIES)
def test_default_layer_and_reshape_are_those_one_would_give_by_hand(family: Family) -> None:
    check(family)
