"""Transformers equal the released grad-cam with the reshape functions of its own examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_grad_cam as peer
import timm
import torch
import torchvision
from pytorch_grad_cam.utils.reshape_transforms import swinT_reshape_transform, vit_reshape_transform
from torch import nn

from camkit import explain

from .parity_helpers import class_targets, gap, one_thread, pictures, require, top_classes

SIDE = 224
CLOSE = 1e-5


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("grad-cam")
    with one_thread():
        yield


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = build()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # position codes and heads that start at zero make every image look alike
                if not parameter.any() or "pos_embed" in name or name.startswith("head"):
                    parameter.normal_(std=0.1)
    return model.double().eval()


def of_timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=20)


CASES: dict[str, tuple[Callable[[], nn.Module], str, Any]] = {
    "torchvision vit_b_16": (
        lambda: torchvision.models.vit_b_16(weights=None, num_classes=20),
        "encoder.layers.encoder_layer_11.ln_1",
        vit_reshape_transform,
    ),
    "timm deit_tiny": (of_timm("deit_tiny_patch16_224"), "blocks.11.norm1", vit_reshape_transform),
    "timm swin_tiny": (
        of_timm("swin_tiny_patch4_window7_224"),
        "layers.3.blocks.1.norm2",
        swinT_reshape_transform,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_same_picture(case: str) -> None:
    """Of the top class; camkit is told the layer only, and finds the layout itself."""
    build, layer, reshape = CASES[case]
    net, x = seeded(build), pictures(2, seed=21, size=(SIDE, SIDE))
    found = explain(net, x, "gradcam", layers=layer)
    module = net.get_submodule(layer)
    with peer.GradCAM(net, [module], reshape_transform=reshape) as cam:
        theirs = cam(x, class_targets(top_classes(net, x)))
    assert found.maps.dtype == torch.float64
    assert float(found.maps.std()) > 0.05
    assert gap(found.maps, theirs) < CLOSE
