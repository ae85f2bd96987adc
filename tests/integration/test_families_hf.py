"""Families of transformers: tiny configurations, explained with model and image only."""

from __future__ import annotations

from typing import Any

import transformers as hf
from torch import nn

from .family_helpers import FIRST, Family, Size, check, each, tokens

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
    "use_timm_backbone": False,
    "backbone_config": hf.ResNetConfig(**RESNET, out_features=["stage4"]),
    "d_model": 32,
    "num_queries": 4,
    "num_labels": 4,
}
DETR |= {
    f"{half}_{what}": value
    for half in ("encoder", "decoder")
    for what, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
}
MOBILEVIT: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [24, 32, 48],
    "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96],
}
CVT: dict[str, Any] = {"embed_dim": [16, 24, 48], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}
REGNET: dict[str, Any] = {"embedding_size": 16, "groups_width": 8, **STAGES}


def f(
    kind: str,
    config: dict[str, Any],
    layer: str,
    reshape: Any = FIRST,
    size: Size = (64, 64),
    seed: int = 0,
    **words: Any,
) -> Family:
    """A family by the class of its network; what stands before its task names the configuration."""

    def build() -> nn.Module:
        stem = kind.partition("For")[0].removesuffix("Model")
        return getattr(hf, kind)(getattr(hf, f"{stem}Config")(**config))

    return Family(kind, build, layer, reshape, size, words=words, seed=seed)


ONE, NONE, WIDE = tokens(1, 4, 4), tokens(0, 4, 4), {**VIT, "image_size": (48, 80)}
VIT_LAYER, DEIT_LAYER = "vit.layers.2.layernorm_before", "deit.layers.2.layernorm_before"
CVT_LAYER = "cvt.encoder.stages.2.layers.2.layernorm_before"
DINO_SIZE = (56, 56)

FAMILIES = (
    f("ViTForImageClassification", VIT, VIT_LAYER, ONE),
    f("ViTForImageClassification", WIDE, VIT_LAYER, tokens(1, 3, 5), (48, 80)),
    f("DeiTForImageClassification", VIT, DEIT_LAYER, tokens(2, 4, 4)),
    f("DeiTForImageClassificationWithTeacher", VIT, DEIT_LAYER, tokens(2, 4, 4)),
    f("BeitForImageClassification", VIT, "beit.layers.2", ONE),
    f("SwinForImageClassification", SWIN, "swin.layernorm", NONE),
    f("Swinv2ForImageClassification", SWIN, "swinv2.layernorm", NONE),
    f("SegformerForImageClassification", SEGFORMER, "segformer", seed=3),
    f("SegformerForSemanticSegmentation", SEGFORMER, "decode_head.batch_norm"),
    f("CvtForImageClassification", CVT, CVT_LAYER, ONE, seed=1),
    f("MobileViTForImageClassification", MOBILEVIT, "mobilevit.conv_1x1_exp", seed=1),
    f("ResNetForImageClassification", RESNET, "resnet.encoder"),
    f("RegNetForImageClassification", REGNET, "regnet.encoder", seed=1),
    f("ConvNextForImageClassification", STAGES, "convnext.encoder"),
    f("Dinov2Model", DINO, "encoder.layer.2.norm1", ONE, DINO_SIZE),
    f("Dinov2ForImageClassification", DINO, "dinov2.layernorm", ONE, DINO_SIZE),
    f("Dinov2WithRegistersModel", DINO, "encoder.layer.2.norm1", tokens(5, 4, 4), DINO_SIZE),
    f("DetrForObjectDetection", DETR, "model.encoder", tokens(0, 4, 5), (128, 160), target="box:0"),
    f("CLIPForImageClassification", PAIR, "vision_model.encoder", ONE),
    f("SiglipForImageClassification", PAIR, "vision_model.post_layernorm", NONE),
)


@each(FAMILIES)
def test_default_layer_and_reshape_are_those_one_would_give_by_hand(family: Family) -> None:
    check(family)
