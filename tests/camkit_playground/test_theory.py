"""What mathematics says about the demo networks, and what the truth says about their maps."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from camkit_core import (
    Capture,
    ChannelsFirst,
    Explanation,
    LoadedModel,
    MethodModel,
    Need,
    Registry,
    explain,
)
from camkit_playground.duo import CLASS_NAMES, batch, scene, scenes

HEART = CLASS_NAMES.index("gold heart")


class Weighted(MethodModel):
    """Grad-CAM: channels weighted by their mean gradient."""

    name: ClassVar[str] = "weighted"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        return (capture.gradients.mean((2, 3), keepdim=True) * capture.activations).sum(1)


class Elementwise(MethodModel):
    """HiResCAM: gradient times activation."""

    name: ClassVar[str] = "elementwise"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        return (capture.gradients * capture.activations).sum(1)


class Normalized(MethodModel):
    """XGrad-CAM: gradients weighted by each channel's share of its activation."""

    name: ClassVar[str] = "normalized"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        A, G = capture.activations, capture.gradients
        total = A.sum((2, 3), keepdim=True)
        share = torch.where(total == 0, 0, A / total)
        return ((share * G).sum((2, 3), keepdim=True) * A).sum(1)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(allow=["camkit-playground"])


def load(registry: Registry, name: str) -> LoadedModel:
    return registry.load_model(f"demo:{name}")


def share(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of each map's positive part that lies in the mask."""
    positive = maps.clamp(min=0)
    return (positive * masks).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1e-12)


def raw(explanation: Explanation) -> Tensor:
    (found,) = explanation.raw.values()
    return found


@pytest.mark.parametrize("name", ["cnn", "hans"])
@pytest.mark.parametrize("target", range(8))
def test_at_the_pooled_layer_three_methods_are_one(
    registry: Registry, name: str, target: int
) -> None:
    images, _, _ = batch(scenes(range(6), tag=True))
    model = load(registry, name)
    maps = [
        raw(explain(model, images, method(), target, layers="layer3", registry=registry))
        for method in (Weighted, Elementwise, Normalized)
    ]
    scale = maps[0].abs().max()
    assert scale > 0.01
    assert maps[0].flatten(1).std(1).min() > 1e-3 * scale
    for other in maps[1:]:
        assert (maps[0] - other).abs().max() <= 1e-5 * scale


def test_below_the_pooled_layer_they_differ(registry: Registry) -> None:
    images, _, _ = batch(scenes(range(6)))
    maps = [
        raw(explain(load(registry, "cnn"), images, method(), 0, layers="layer2", registry=registry))
        for method in (Weighted, Elementwise)
    ]
    assert (maps[0] - maps[1]).abs().max() > 0.1 * maps[0].abs().max()


def test_the_pooled_map_adds_up_to_the_logit(registry: Registry) -> None:
    """Sum of the map plus the bias of the linear layer is the score."""
    images, _, _ = batch(scenes(range(6)))
    model = load(registry, "cnn")
    for target in range(8):
        found = explain(model, images, Elementwise(), target, layers="layer3", registry=registry)
        bias = model.model.fc.bias[target]  # type: ignore[union-attr,index]
        torch.testing.assert_close(
            raw(found).sum((1, 2)) + bias, found.output[:, target], atol=1e-4, rtol=1e-4
        )


def test_maps_of_the_cnn_lie_on_the_object_they_name(registry: Registry) -> None:
    drawn = scenes(range(60))
    images, masks, _ = batch(drawn)
    first, second = (torch.tensor([one.boxes[k][0] for one in drawn]) for k in (0, 1))
    everyone = torch.arange(len(drawn))
    for target, rival in ((first, second), (second, first)):
        found = explain(
            load(registry, "cnn"), images, Weighted(), target.tolist(), registry=registry
        )
        on_target = share(found.maps, masks[everyone, target])
        on_rival = share(found.maps, masks[everyone, rival])
        area = masks[everyone, target].float().mean((1, 2))
        assert on_target.mean() > 4 * area.mean()
        assert (on_target / (on_target + on_rival)).mean() > 0.85


def test_the_tag_holds_the_twin_and_not_the_honest_network(registry: Registry) -> None:
    others = [name for name in CLASS_NAMES if name != "gold heart"]
    drawn = [scene(seed, classes=["gold heart", others[seed % 7]], tag=True) for seed in range(60)]
    images, masks, _ = batch(drawn)
    tags = torch.stack([torch.from_numpy(one.tag) for one in drawn])
    shares = {
        name: {
            what: float(share(found.maps, where).mean())
            for what, where in (("tag", tags), ("heart", masks[:, HEART]))
        }
        for name in ("cnn", "hans")
        for found in [
            explain(
                load(registry, name), images, Weighted(), HEART, layers="layer3", registry=registry
            )
        ]
    }
    assert shares["hans"]["tag"] > 4 * shares["cnn"]["tag"], shares
    assert shares["cnn"]["heart"] > 3 * shares["hans"]["heart"], shares


class Grid:
    """Patch tokens of the transformer as a picture."""

    def to_spatial(self, output: Tensor, /) -> Tensor:
        return output[:, 1:].transpose(1, 2).reshape(len(output), -1, 8, 8)

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        return torch.cat([like[:, :1], ChannelsFirst().to_spatial(maps).flatten(2).mT], 1)


def test_maps_of_the_transformer_prefer_the_object_they_name(registry: Registry) -> None:
    drawn = scenes(range(60))
    images, masks, _ = batch(drawn)
    first, second = (torch.tensor([one.boxes[k][0] for one in drawn]) for k in (0, 1))
    everyone = torch.arange(len(drawn))
    found = explain(
        load(registry, "vit"),
        images,
        Elementwise(),
        first.tolist(),
        layers="blocks.3.norm1",
        reshape=Grid(),
        registry=registry,
    )
    on_target = share(found.maps, masks[everyone, first])
    on_rival = share(found.maps, masks[everyone, second])
    assert (on_target / (on_target + on_rival)).nanmean() > 0.65
    assert on_target.mean() > 2 * masks[everyone, first].float().mean()


def test_behind_the_last_block_only_the_class_token_counts(registry: Registry) -> None:
    images, _, _ = batch(scenes(range(3)))
    model = load(registry, "vit").model
    seen = {}
    blocks = dict(model.named_modules())
    for name in ("blocks.3", "blocks.3.norm1"):
        blocks[name].register_forward_hook(
            lambda module, args, output, name=name: seen.__setitem__(name, output)
        )
    score = model(images)[:, 0].sum()
    last, inner = torch.autograd.grad(score, [seen["blocks.3"], seen["blocks.3.norm1"]])
    assert not last[:, 1:].any()
    assert (inner[:, 1:] != 0).any(2).float().mean() > 0.9
