"""Constant and dead layers, single positions, flat images: finite maps that say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from perturbation_proof.checks import raw
from perturbation_proof.family import EVERY, EVERYTHING, SPECS
from perturbation_proof.networks import CHANNELS, DeepNet, WillingNet, images

from camkit_core import OptionError, explain


def constant_activations(net: DeepNet) -> None:
    """Every channel the same number at every position."""
    net.features[2].weight.data.zero_()  # type: ignore[index]
    net.features[2].bias.data = torch.linspace(0.2, 1.2, CHANNELS, dtype=torch.float64)  # type: ignore[index]


def dead_layer(net: DeepNet) -> None:
    """Nothing gets through the ReLU."""
    net.features[2].weight.data.zero_()  # type: ignore[index]
    net.features[2].bias.data.fill_(-1.0)  # type: ignore[index]


def one_dead_channel(net: DeepNet) -> None:
    """A channel that is zero everywhere."""
    net.features[2].bias.data[3] = -50.0  # type: ignore[index]


def blind_head(net: DeepNet) -> None:
    """No class depends on the layer."""
    net.fc.weight.data.zero_()


DAMAGES: list[Callable[[DeepNet], None]] = [
    constant_activations,
    dead_layer,
    one_dead_channel,
    blind_head,
]


@EVERY
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_degenerate_layers_give_finite_maps(
    name: str, damage: Callable[[DeepNet], None], dtype: torch.dtype
) -> None:
    net, x = WillingNet(seed=3), images(2).to(dtype)
    damage(net)
    explanation = explain(net.to(dtype), x, method=EVERYTHING[name], target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert torch.isfinite(maps).all()
    assert (explanation.maps >= 0).all()
    assert (explanation.maps <= 1).all()


AT_A_LAYER = [name for name in SPECS if name not in ("rise", "occlusion")]


@pytest.mark.parametrize("name", [*AT_A_LAYER, "scorecam:normalize=none", "iscam"])
def test_a_dead_layer_says_so(name: str) -> None:
    net, x = WillingNet(seed=3), images(2)
    dead_layer(net)
    spec = SPECS.get(name, name)
    explanation = explain(net, x, method=spec, target=1, layers="features")
    assert {issue.code for issue in explanation.issues} & {"all_zero", "constant", "all_negative"}


@pytest.mark.parametrize("spec", ["scorecam", "scorecam:variant=authors", "gscorecam", "polycam"])
def test_a_channel_without_contrast_masks_nothing(spec: str) -> None:
    """Rounding in a constant channel must not become a mask: the score would be noise."""
    x = images(2)
    maps = []
    for value in (0.3, 0.1 + 0.2):  # equal up to rounding
        net = WillingNet(seed=3)
        net.features[2].weight.data[3] = 0  # type: ignore[index]
        net.features[2].bias.data[3] = value  # type: ignore[index]
        maps.append(raw(net, x, spec))
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-12)


@EVERY
def test_a_single_position(name: str) -> None:
    """A 1x1 layer can show nothing; it must not divide by its own lack of contrast."""
    net, x = WillingNet(seed=3), images(2, size=(1, 1))
    explanation = explain(net, x, method=EVERYTHING[name], target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert maps.shape == (2, 1, 1)
        assert torch.isfinite(maps).all()
    assert explanation.issues


@EVERY
def test_an_image_of_one_color(name: str) -> None:
    net, x = WillingNet(seed=3), torch.full((2, 3, 8, 10), 0.4, dtype=torch.float64)
    explanation = explain(net, x, method=EVERYTHING[name], target=1, layers="features")
    assert torch.isfinite(explanation.maps).all()


@EVERY
def test_an_empty_batch(name: str) -> None:
    explanation = explain(
        WillingNet(seed=3), images(2)[:0], method=EVERYTHING[name], target=1, layers="features"
    )
    assert len(explanation.maps) == 0


@pytest.mark.parametrize(
    "spec",
    [
        "scorecam:variant=original",
        "ablationcam:ratio=0",
        "ablationcam:ratio=1.5",
        "rise:p=1",
        "rise:masks=0",
        "channelshapley:exact=30",
        "groupcam:denoise=100",
        "clustercam:clustering=ward",
        "sscam:std=-1",
    ],
)
def test_impossible_options_are_refused_by_name(spec: str) -> None:
    option = spec.partition(":")[2].partition("=")[0]
    with pytest.raises(OptionError, match=option):
        raw(WillingNet(seed=3), images(1), spec)
