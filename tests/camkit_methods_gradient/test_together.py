"""Batches, layers, methods and targets at once are the single calls; so are other formats."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    assert_live,
    raw,
)
from gradient_proof.family import (
    ALL,
    AT_A_LAYER,
    EVERY,
    EVERY_UNSEEDED,
    SEEDED,
    network,
)
from gradient_proof.networks import (
    DeepNet,
    GapNet,
    SmoothNet,
    images,
    log_probability,
    margin,
)
from torch import nn

from camkit_core import compare, explain

# --- the batch -------------------------------------------------------------------------------


@EVERY_UNSEEDED
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
def test_a_batch_is_its_images_one_by_one(name: str, dims: int) -> None:
    net = GapNet(dims, seed=1) if name == "cam" else SmoothNet(dims, seed=1)
    x, classes = images(3, dims), [2, 0, 4]
    together = raw(net, x, name, target=classes)
    alone = [raw(net, x[i : i + 1], name, target=c) for i, c in enumerate(classes)]
    if name in ("fakecam", "gaussian"):
        assert torch.equal(together, torch.cat(alone))
    assert_equal(together, torch.cat(alone), 1e-10)


@EVERY_UNSEEDED
def test_order_of_the_batch(name: str) -> None:
    net, x, classes, order = network(name), images(4), [2, 0, 4, 1], [2, 0, 3, 1]
    there = raw(net, x, name, target=classes)[order]
    assert_equal(raw(net, x[order], name, target=[classes[i] for i in order]), there, 1e-10)


@EVERY_UNSEEDED
def test_duplicate_images(name: str) -> None:
    net, x = network(name), images(1).expand(3, -1, -1, -1)
    maps = raw(net, x, name)
    assert_equal(maps, maps[:1].expand_as(maps), 1e-12)


@EVERY
def test_no_memory_of_the_previous_image(name: str) -> None:
    net, x = network(name), images(4)
    fresh = raw(copy.deepcopy(net), x[2:], name)
    raw(net, x[:2], name)
    again = raw(net, x[2:], name)
    assert_live(again)
    assert torch.equal(again, fresh)


@EVERY
def test_further_classes_change_nothing(name: str) -> None:
    net, x = network(name), images(2)
    wider = copy.deepcopy(net)
    wider.fc = nn.Linear(net.fc.in_features, 9, dtype=torch.float64)
    wider.fc.weight.data[:5], wider.fc.bias.data[:5] = net.fc.weight.data, net.fc.bias.data
    assert_equal(raw(wider, x, name), raw(net, x, name), 1e-12)


# --- many at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in AT_A_LAYER if name != "cam"])
def test_two_layers_in_either_order(name: str) -> None:
    net, x = network(name), images(2)
    early, late = "features.1", "features.3"
    forth = explain(net, x, method=name, target=1, layers=[early, late])
    back = explain(net, x, method=name, target=1, layers=[late, early])
    assert list(forth.raw) == [early, late]
    assert list(back.raw) == [late, early]
    assert forth.raw[early].shape == forth.raw[late].shape
    if name != "fakecam":
        assert_different(forth.raw[early], forth.raw[late])
    if name not in SEEDED:
        for layer in (early, late):
            assert_equal(forth.raw[layer], back.raw[layer], 1e-12)
            assert_equal(forth.raw[layer], raw(net, x, name, layer=layer), 1e-12)
        assert_equal(back.maps, forth.maps, 1e-12)


def test_many_methods_at_once_are_the_single_calls() -> None:
    net, x = GapNet(seed=1), images(2)
    together = compare(net, x, methods=ALL, targets=[3], layers="features", seed=5)
    assert list(together) == [(name, 0) for name in ALL]
    for name in ALL:
        alone = explain(net, x, method=name, target=3, layers="features", seed=5)
        ours = together[name, 0]
        assert set(ours.raw) == set(alone.raw)
        for layer in alone.raw:
            assert_equal(ours.raw[layer], alone.raw[layer], 1e-12)
        assert_equal(ours.maps, alone.maps, 1e-12)
        assert torch.equal(ours.score, alone.score)


@pytest.mark.parametrize("curved", [False, True], ids=["classes", "callables"])
def test_many_targets_at_once_are_the_single_calls(curved: bool) -> None:
    net, x = SmoothNet(seed=1), images(3)
    names = [name for name in AT_A_LAYER if name != "cam"]
    targets: list[Any] = [4, [2, 0, 1], None]
    if curved:
        targets = [
            log_probability(2),
            margin(0, 3),
            [log_probability(0), margin(1, 2), margin(3, 1)],
        ]
    together = compare(net, x, methods=names, targets=targets, layers="features", seed=5)
    assert len(together) == len(names) * len(targets)
    for position, target in enumerate(targets):
        for name in names:
            alone = explain(net, x, method=name, target=target, layers="features", seed=5)
            ours = together[name, position]
            assert_equal(ours.raw["features"], alone.raw["features"], 1e-12)
            assert torch.equal(ours.score, alone.score)


def test_methods_and_targets_and_layers_in_one_comparison() -> None:
    net, x = SmoothNet(seed=2), images(2)
    layers = ["features.1", "features.3"]
    together = compare(
        net, x, methods=["shapleycam", "layercam", "eigencam"], targets=[1, 2], layers=layers
    )
    for (name, position), ours in together.items():
        alone = explain(net, x, method=name, target=[1, 2][position], layers=layers)
        for layer in layers:
            assert_equal(ours.raw[layer], alone.raw[layer], 1e-12)
        assert_equal(ours.maps, alone.maps, 1e-12)


def test_top_classes_of_each_image() -> None:
    net, x = DeepNet(seed=2), images(3)
    ranks = net(x).topk(2, 1).indices
    together = compare(net, x, methods=["hirescam"], targets=["top2"], layers="features")
    assert list(together) == [("hirescam", 0), ("hirescam", 1)]
    for rank in range(2):
        alone = raw(net, x, "hirescam", target=ranks[:, rank].tolist())
        assert_equal(together["hirescam", rank].raw["features"], alone, 1e-12)


# --- number formats and layouts --------------------------------------------------------------


@EVERY
def test_single_precision(name: str) -> None:
    net, x = network(name), images(2)
    exact = raw(net, x, name, seed=3)
    single = raw(copy.deepcopy(net).float(), x.float(), name, seed=3)
    assert single.dtype == torch.float32
    if name in SEEDED:  # the same stream may be read differently in another precision
        assert_live(single)
        return
    assert_equal(single, exact, 1e-4)


@EVERY
def test_channels_last(name: str) -> None:
    net, x = network(name), images(3)
    turned = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert_equal(
        raw(turned, x.to(memory_format=torch.channels_last), name, seed=1),
        raw(net, x, name, seed=1),
        1e-10,
    )


@EVERY
def test_a_view_with_strides(name: str) -> None:
    net, x = network(name), images(4)
    wide = torch.stack([x, -x], -1)[::2, ..., 0]
    assert not wide.is_contiguous()
    assert_equal(raw(net, wide, name, seed=1), raw(net, x[::2].clone(), name, seed=1), 1e-12)
