"""Every family of torchvision: the real class, random weights, nothing but model and image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.video import mvit

from camkit import explain

from .family_helpers import (
    EIGEN,
    FIRST,
    LAST,
    Family,
    Size,
    check,
    each,
    pictures,
    seeded,
    telling,
    tokens,
)


def f(name: str, layer: str, reshape: Any = FIRST, size: Size = (64, 64), **about: Any) -> Family:
    """A family by its name in torchvision's list."""
    return Family(name, classifier(name), layer, reshape, size, **about)


def classifier(name: str, **words: Any) -> Callable[[], nn.Module]:
    return partial(models.get_model, name, weights=None, num_classes=7, **words)


def small_vit() -> nn.Module:
    return models.VisionTransformer(64, 8, 3, 4, 48, 96, num_classes=7)


def small_maxvit() -> nn.Module:
    return models.MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=7,
    )


quiet = {"init_weights": False}
CONVOLUTIONAL = (
    f("alexnet", "features.10", ablation=False),
    f("vgg11", "features", ablation=False),
    f("resnet18", "layer4"),
    f("resnext50_32x4d", "layer4"),
    f("wide_resnet50_2", "layer4"),
    f("densenet121", "features"),
    f("squeezenet1_1", "classifier.1"),
    Family("inception_v3", classifier("inception_v3", **quiet), "Mixed_7c", size=(107, 107)),
    Family("googlenet", classifier("googlenet", **quiet), "inception5b"),
    f("mobilenet_v2", "features"),
    f("mobilenet_v3_small", "features", seed=1),
    f("shufflenet_v2_x0_5", "conv5"),
    f("mnasnet0_5", "layers"),
    f("efficientnet_b0", "features"),
    f("efficientnet_v2_s", "features"),
    f("regnet_y_400mf", "trunk_output"),
    f("convnext_tiny", "features"),
)
TRANSFORMERS = (
    Family("vit", small_vit, "encoder.layers.encoder_layer_2.ln_1", tokens(1, 8, 8)),
    f("swin_t", "norm", LAST),
    f("swin_v2_t", "norm", LAST, seed=2),
    Family("maxvit", small_maxvit, "blocks.1", seed=3),
)


@each((*CONVOLUTIONAL, *TRANSFORMERS))
def test_classification(family: Family) -> None:
    check(family)


def test_every_classification_family_is_here() -> None:
    """The stem of a name in torchvision's list is the stem of a name above."""
    tested = {_stem(family.name) for family in (*CONVOLUTIONAL, *TRANSFORMERS)}
    listed = {_stem(name) for name in models.list_models(module=models)}
    assert listed == tested


def _stem(name: str) -> str:
    words = ("resnext", "wide_resnet", "efficientnet_v2", "efficientnet", "mobilenet_v2")
    words += ("mobilenet_v3", "swin_v2", "swin", "maxvit", "vit", "vgg", "squeezenet", "densenet")
    words += ("shufflenet", "mnasnet", "regnet", "convnext", "resnet")
    return next((word for word in words if name.startswith(word)), name)


# --- segmentation --------------------------------------------------------------------------------


def segmenter(name: str) -> Callable[[], nn.Module]:
    builder = getattr(models.segmentation, name)
    return partial(builder, weights=None, weights_backbone=None, num_classes=5)


def s(name: str, build: str, layer: str, size: Size = (64, 64)) -> Family:
    return Family(name, segmenter(build), layer, size=size, ablation=False)


SEGMENTATION = (
    s("deeplabv3", "deeplabv3_resnet50", "backbone.layer4", (64, 96)),
    s("deeplabv3_mobile", "deeplabv3_mobilenet_v3_large", "backbone.16"),
    s("fcn", "fcn_resnet50", "backbone.layer4", (64, 96)),
    s("lraspp", "lraspp_mobilenet_v3_large", "backbone.16", (64, 96)),
)


@each(SEGMENTATION)
def test_segmentation(family: Family) -> None:
    """The predicted class, where it is predicted, at the end of the backbone."""
    check(family)


# --- video ---------------------------------------------------------------------------------------


def small_mvit(name: str) -> nn.Module:
    """torchvision's own configuration of the blocks, for a small and short clip."""
    real = mvit._mvit

    def smaller(*args: Any, **words: Any) -> nn.Module:
        return real(*args, **{**words, "spatial_size": (64, 64), "temporal_size": 4})

    with mock.patch.object(mvit, "_mvit", smaller):
        model: nn.Module = getattr(mvit, name)(num_classes=7)
    return model


def m(name: str, layer: str, seed: int = 0) -> Family:
    build, grid = partial(small_mvit, name), tokens(1, 2, 2, 2)
    return Family(name, build, layer, grid, CLIP, ablation=False, seed=seed)


CLIP = (4, 64, 64)
VIDEO = (
    f("r3d_18", "layer4", FIRST, (4, 32, 48)),
    f("mc3_18", "layer4", FIRST, (4, 32, 48)),
    f("r2plus1d_18", "layer4", FIRST, (4, 32, 48)),
    f("swin3d_t", "norm", LAST, CLIP, seed=1),
    m("mvit_v1_b", "blocks.15.norm1", seed=1),
    m("mvit_v2_s", "blocks.15.norm1"),
)


@each(VIDEO)
def test_video(family: Family) -> None:
    check(family)


def test_mvit_says_the_grid_of_every_block_itself() -> None:
    """Blocks return their tokens with (frames, rows, columns), halved from stage to stage."""
    model, image = VIDEO[4].model(), VIDEO[4].pictures()[:1]
    grids = {"0": (2, 16, 16), "1": (2, 8, 8), "3": (2, 4, 4), "14": (2, 2, 2)}
    for block, grid in grids.items():
        for name in (f"blocks.{block}", f"blocks.{block}.norm2"):
            found = explain(model, image, EIGEN, layers=name)
            assert found.provenance.reshape[name] == f"Tokens(prefix=1, grid={grid})"


# --- networks of one's own -----------------------------------------------------------------------


PHOTOS = pictures(64, 64)


def network(build: Callable[[], nn.Module]) -> nn.Module:
    return seeded(build, PHOTOS)


def chain(*channels: int, axes: int = 2) -> nn.Sequential:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    pairs = zip((3, *channels), channels, strict=False)
    parts = [(conv(a, b, 3, 2, 1), nn.Tanh()) for a, b in pairs]
    return nn.Sequential(*(one for part in parts for one in part))


class Several(nn.Module):
    """Answers in several parts, and takes several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = chain(6, 8)
        self.head = nn.Linear(8 + 4, 5)
        self.other = nn.Linear(8, 3)

    def forward(self, x: Tensor, age: Tensor | None = None, *, scale: float = 1.0) -> Any:
        z = self.body(x).mean((2, 3))
        age = torch.zeros(len(x), 4) if age is None else age
        logits = self.head(torch.cat([z, age], 1)) * scale
        return {"logits": logits, "other": self.other(z), "features": z}


OUTPUTS = {
    "a name": ("other", lambda out: out["other"]),
    "the usual name": (None, lambda out: out["logits"]),
    "a function": (lambda out: out["features"] * 2, lambda out: out["features"]),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_a_part_of_the_output_can_be_named(case: str) -> None:
    output, part = OUTPUTS[case]
    family = Family(case, Several, "body", words={} if output is None else {"output": output})
    check(family)
    model, image = family.model(), family.pictures()[:1]
    found = explain(model, image, **family.words)
    answer = part(model(image))
    wanted = explain(model, image, target=lambda out: part(out).flatten()[answer.argmax()])
    torch.testing.assert_close(found.maps, wanted.maps, rtol=1e-4, atol=1e-4)


def test_a_part_of_a_tuple_can_be_counted() -> None:
    class Pair(Several):
        def forward(self, x: Tensor) -> Any:
            return tuple(super().forward(x).values())

    model, plain, image = network(Pair), network(Several), PHOTOS[:1]
    for position, name in enumerate(("logits", "other")):
        counted = explain(model, image, output=position)
        telling(counted, image)
        torch.testing.assert_close(counted.maps, explain(plain, image, output=name).maps)


def test_several_inputs_and_keywords() -> None:
    model, image, age = network(Several), PHOTOS, torch.tensor([[2.0] * 4, [-3.0] * 4])
    named = explain(model, {"x": image, "age": age, "scale": 2.0})
    telling(named, image)
    placed = explain(model, (image, age))
    torch.testing.assert_close(placed.maps, named.maps)
    torch.testing.assert_close(named.score, 2 * placed.score)
    assert named.provenance.layers == ("body",)
    alone = explain(model, image)
    assert not torch.equal(alone.score, placed.score), "the other input matters"


class Late(nn.Module):
    """The image is the second input, and there are two tensors with places."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = chain(6, 8), nn.Linear(8, 5)

    def forward(self, mask: Tensor, photo: Tensor) -> Tensor:
        return self.head(self.body(photo * mask).mean((2, 3)))


@pytest.mark.parametrize("key", [1, "photo"])
def test_the_image_among_several_inputs_can_be_named(key: int | str) -> None:
    model, photo = network(Late), PHOTOS[:1]
    mask = torch.ones(1, 1, 64, 64)
    inputs = (mask, photo) if key == 1 else {"mask": mask, "photo": photo}
    found = explain(model, inputs, image=key)
    telling(found, photo)
    torch.testing.assert_close(found.inputs, photo)
