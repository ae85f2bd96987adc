"""Families of transformers: tiny configurations, explained with model and image only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from .families_helpers import (
    FIRST,
    Family,
    Size,
    check_family,
    tokens,
)

torch.set_num_threads(1)

VIT: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 64,
    "patch_size": 16,
}
DINO = {**VIT, "image_size": 56, "patch_size": 14}
TEXT: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 99,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PAIR: dict[str, Any] = {"vision_config": VIT, "text_config": TEXT}
SWIN: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [1, 1, 2],
    "num_heads": [2, 2, 4],
    "window_size": 4,
}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
RESNET: dict[str, Any] = {"embedding_size": 16, "layer_type": "basic", **STAGES}
SEGFORMER: dict[str, Any] = {
    **STAGES,
    "num_labels": 4,
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 32,
}
DETR: dict[str, Any] = {
    f"{half}_{what}": value
    for half in ("encoder", "decoder")
    for what, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
}
MOBILEVIT: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [24, 32, 48],
    "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96],
}


def f(
    kind: str,
    config: Any,
    layer: str,
    reshape: Any = FIRST,
    size: Size = (64, 64),
    target: Any = None,
    *,
    ablation: bool = True,
) -> Family:
    """A family by the class of its network."""

    def build() -> nn.Module:
        net: nn.Module = getattr(hf, kind)(config)
        return net

    return Family(kind, build, layer, reshape, size, ablation, target)


GRID = tokens(1, (4, 4))

FAMILIES = (
    f("ViTForImageClassification", hf.ViTConfig(**VIT), "vit.layers.2.layernorm_before", GRID),
    f(
        "ViTForImageClassification",
        hf.ViTConfig(**{**VIT, "image_size": (48, 80)}),
        "vit.layers.2.layernorm_before",
        tokens(1, (3, 5)),
        (48, 80),
    ),
    f(
        "DeiTForImageClassification",
        hf.DeiTConfig(**VIT),
        "deit.layers.2.layernorm_before",
        tokens(2, (4, 4)),
    ),
    f(
        "DeiTForImageClassificationWithTeacher",
        hf.DeiTConfig(**VIT),
        "deit.layers.2.layernorm_before",
        tokens(2, (4, 4)),
    ),
    f("BeitForImageClassification", hf.BeitConfig(**VIT), "beit.layers.2", GRID),
    f("SwinForImageClassification", hf.SwinConfig(**SWIN), "swin.layernorm", tokens(0, (4, 4))),
    f(
        "Swinv2ForImageClassification",
        hf.Swinv2Config(**SWIN),
        "swinv2.layernorm",
        tokens(0, (4, 4)),
    ),
    f("SegformerForImageClassification", hf.SegformerConfig(**SEGFORMER), "segformer"),
    f(
        "SegformerForSemanticSegmentation",
        hf.SegformerConfig(**SEGFORMER),
        "decode_head.batch_norm",
    ),
    f(
        "CvtForImageClassification",
        hf.CvtConfig(embed_dim=[16, 24, 48], num_heads=[1, 2, 4], depth=[1, 2, 3]),
        "cvt.encoder.stages.2.layers.2.layernorm_before",
        GRID,
    ),
    f(
        "MobileViTForImageClassification",
        hf.MobileViTConfig(**MOBILEVIT),
        "mobilevit.conv_1x1_exp",
    ),
    f("ResNetForImageClassification", hf.ResNetConfig(**RESNET), "resnet.encoder"),
    f(
        "RegNetForImageClassification",
        hf.RegNetConfig(embedding_size=16, groups_width=8, **STAGES),
        "regnet.encoder",
    ),
    f(
        "ConvNextForImageClassification",
        hf.ConvNextConfig(**STAGES),
        "convnext.encoder",
    ),
    f("Dinov2Model", hf.Dinov2Config(**DINO), "encoder.layer.2.norm1", GRID, (56, 56)),
    f(
        "Dinov2ForImageClassification",
        hf.Dinov2Config(**DINO),
        "dinov2.layernorm",
        GRID,
        (56, 56),
    ),
    f(
        "Dinov2WithRegistersModel",
        hf.Dinov2WithRegistersConfig(**DINO),
        "encoder.layer.2.norm1",
        tokens(5, (4, 4)),
        (56, 56),
    ),
    f(
        "DetrForObjectDetection",
        hf.DetrConfig(
            use_timm_backbone=False,
            backbone_config=hf.ResNetConfig(**RESNET, out_features=["stage4"]),
            d_model=32,
            num_queries=4,
            num_labels=4,
            **DETR,
        ),
        "model.encoder",
        tokens(0, (4, 5)),
        (128, 160),
        "box:0",
    ),
    f("CLIPForImageClassification", hf.CLIPConfig(**PAIR), "vision_model.encoder", GRID),
    f(
        "SiglipForImageClassification",
        hf.SiglipConfig(**PAIR),
        "vision_model.post_layernorm",
        tokens(0, (4, 4)),
    ),
)


@pytest.mark.parametrize(
    "family", [pytest.param(one, id=f"{one.name}-{one.size[1]}") for one in FAMILIES]
)
def test_default_layer_and_reshape_are_those_one_would_give_by_hand(family):
    check_family(family)
