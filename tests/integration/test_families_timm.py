"""timm's families: small variants with seeded weights, explained with model and image only."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import nn

from .families_helpers import FIRST, LAST, Family, Size, check_family, tokens

torch.set_num_threads(1)


def _create(name: str, **words: Any) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=7, **words)


def f(
    name: str,
    layer: str,
    reshape: Any = FIRST,
    size: Size = (64, 64),
    *,
    sized: bool = False,
    ablation: bool = True,
    **words: Any,
) -> Family:
    """A family; `sized` ones are told the size of their images."""
    told = {"img_size": size, **words} if sized else words
    build = partial(_create, name, **told)
    return Family(name, build, layer, reshape, size, ablation)


NARROW = {"embed_dim": 48, "num_heads": 3, "depth": 3}
SHALLOW = {"depths": (1, 1, 2, 1)}

FAST = (
    f("resnet10t", "layer4", ablation=False),
    f("convnext_atto", "stages"),
    f("efficientnet_lite0", "bn2", ablation=False),
    f("mobilevit_xxs", "final_conv", ablation=False),
    f("pvt_v2_b0", "stages"),
    f("poolformer_s12", "stages", ablation=False),
    f("vit_tiny_patch16_224", "blocks.2.norm1", tokens(1, (4, 4)), sized=True, **NARROW),
    f(
        "vit_tiny_patch16_224",
        "blocks.2.norm1",
        tokens(1, (3, 5)),
        (48, 80),
        sized=True,
        **NARROW,
    ),
    f("deit_tiny_distilled_patch16_224", "blocks.2.norm1", tokens(2, (4, 4)), sized=True, **NARROW),
    f(
        "vit_small_patch14_reg4_dinov2",
        "blocks.2.norm1",
        tokens(5, (4, 4)),
        (56, 56),
        sized=True,
        **NARROW,
    ),
    f("vit_base_patch16_siglip_224", "norm", tokens(0, (4, 4)), sized=True, **NARROW),
    f("vit_base_patch16_clip_224", "blocks.2.norm1", tokens(1, (4, 4)), sized=True, **NARROW),
    f("swin_tiny_patch4_window7_224", "norm", LAST, sized=True, ablation=False, **SHALLOW),
    f(
        "swinv2_tiny_window8_256",
        "norm",
        LAST,
        sized=True,
        ablation=False,
        window_size=4,
        **SHALLOW,
    ),
    f("beit_base_patch16_224", "blocks.2", tokens(1, (4, 4)), sized=True, **NARROW),
    f("eva02_tiny_patch14_224", "blocks.2", tokens(1, (4, 4)), (56, 56), sized=True, **NARROW),
    f(
        "cait_xxs24_224",
        "blocks_token_only.1.norm1",
        tokens(1, (4, 4)),
        sized=True,
        **NARROW,
    ),
    f(
        "xcit_nano_12_p16_224",
        "cls_attn_blocks.1.norm1",
        tokens(1, (4, 4)),
        sized=True,
        ablation=False,
    ),
    f("levit_128s", "stages", tokens(0, (4, 4)), (224, 224), ablation=False),
)

SLOW = (
    f("coatnet_nano_rw_224", "norm", FIRST, (224, 224), ablation=False),
    f("maxvit_rmlp_pico_rw_256", "norm", FIRST, (256, 256), ablation=False),
    f("mixer_s32_224", "norm", tokens(0, (7, 7)), (224, 224), ablation=False),
    f("hiera_tiny_224", "blocks.11", tokens(0, (7, 7)), (224, 224), ablation=False),
    f("twins_svt_small", "norm", tokens(0, (2, 2)), ablation=False),
    f("davit_tiny", "stages", ablation=False),
    f("focalnet_tiny_srf", "norm", ablation=False),
)

FAMILIES = [
    *(pytest.param(one, id=f"{one.name}-{one.size[0]}x{one.size[1]}") for one in FAST),
    *(pytest.param(one, id=one.name, marks=pytest.mark.slow) for one in SLOW),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_default_layer_and_reshape_are_those_one_would_give_by_hand(family):
    check_family(family)
