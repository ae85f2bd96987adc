"""The default layer of a class-token transformer still has gradients at the patches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from camkit_tasks.default_layer import default_layer


def vit() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(32, 8, 3, 2, 12, 24, num_classes=5)
        nn.init.normal_(model.heads[0].weight)
    return model.eval()


def gradient_at_patches(model: nn.Module, name: str) -> float:
    kept: list[torch.Tensor] = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    score = model(torch.randn(1, 3, 32, 32))[0, 2]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return float(gradient[:, 1:].abs().max())


def test_last_place_where_patches_reach_the_answer():
    model = vit()
    name = default_layer(model)
    assert name == "encoder.layers.encoder_layer_2.ln_1"
    assert gradient_at_patches(model, name) > 1e-6
    assert gradient_at_patches(model, "encoder.layers.encoder_layer_2") == 0


def test_inside_a_wrapper():
    assert default_layer(nn.Sequential(vit())) == "0.encoder.layers.encoder_layer_2.ln_1"


class TimmLike(nn.Module):
    def __init__(self, pool: str) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.global_pool = pool
        block = lambda: nn.ModuleDict({"norm1": nn.LayerNorm(4), "mlp": nn.Linear(4, 4)})  # noqa: E731
        self.blocks = nn.Sequential(block(), block())


@pytest.mark.parametrize(("pool", "expected"), [("token", "blocks.1.norm1"), ("avg", None)])
def test_only_where_the_class_token_is_read(pool, expected):
    assert default_layer(TimmLike(pool)) == expected


def test_other_networks_are_probed():
    assert default_layer(resnet18()) is None
    no_token = vit()
    no_token.class_token = None
    assert default_layer(no_token) is None
