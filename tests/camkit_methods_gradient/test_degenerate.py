"""Signs, empty maps, dead and constant layers: finite maps, and an issue that says so."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    assert_live,
    raw,
)
from gradient_proof.family import (
    AT_A_LAYER,
    EVERY,
    WITH_GRADIENTS,
    network,
    with_logits,
)
from gradient_proof.networks import (
    CHANNELS,
    DeepNet,
    GapNet,
    SmoothNet,
    Split,
    images,
    log_probability,
)

from camkit_core import explain

# --- sign and emptiness ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "xgradcam", "shapleycam"])
def test_the_negative_score_negates_linear_methods(name: str) -> None:
    net, x = SmoothNet(seed=1), images(2)
    score = log_probability(1)
    assert_equal(
        raw(net, x, name, target=lambda output: -score(output)), -raw(net, x, name, target=score)
    )


def test_the_negated_row_negates_cam() -> None:
    net, x = GapNet(seed=1), images(2)
    turned = with_logits(copy.deepcopy(net), scale=-1.0)
    assert_equal(raw(turned, x, "cam"), -raw(net, x, "cam"), 1e-12)


@pytest.mark.parametrize("name", ["gradcampp", "layercam", "gradcamelementwise"])
def test_methods_of_positive_gradients_do_not_negate(name: str) -> None:
    net, x = SmoothNet(seed=1), images(2)
    minus = raw(net, x, name, target=lambda output: -output[1])
    assert_different(minus, -raw(net, x, name, target=1))


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_a_class_without_weights_has_an_empty_map_and_says_so(name: str) -> None:
    net, x = network(name), images(3)
    net.fc.weight.data[4] = 0
    explanation = explain(net, x, method=name, target=[4, 1, 4], layers="features")
    ours = explanation.raw["features"]
    assert (ours[[0, 2]] == 0).all()
    assert (explanation.maps[[0, 2]] == 0).all()
    assert_live(ours[1:2])
    (issue,) = [issue for issue in explanation.issues if issue.code == "all_zero"]
    assert issue.images == (0, 2)
    assert issue.layer in ("", "features")


@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_a_map_without_positive_values_says_so(name: str) -> None:
    """Positive activations, negative weights: nothing survives the ReLU."""
    net, x = GapNet(seed=1), images(2)
    net.fc.weight.data[1] = -net.fc.weight.data[1].abs()
    explanation = explain(net, x, method=name, target=1, layers="features")
    assert_live(explanation.raw["features"])
    assert (explanation.raw["features"] <= 0).all()
    assert (explanation.maps == 0).all()
    assert "all_negative" in {issue.code for issue in explanation.issues}


# --- degenerate activations ------------------------------------------------------------------


def constant_activations(net: Split) -> None:
    """Every channel the same number at every position."""
    net.features[2].weight.data.zero_()  # type: ignore[index, union-attr]
    net.features[2].bias.data = torch.linspace(0.2, 1.2, CHANNELS, dtype=torch.float64)  # type: ignore[index, union-attr]


def dead_layer(net: Split) -> None:
    """Nothing gets through the ReLU."""
    net.features[2].weight.data.zero_()  # type: ignore[index, union-attr]
    net.features[2].bias.data.fill_(-1.0)  # type: ignore[index, union-attr]


def one_dead_channel(net: Split) -> None:
    """A channel that is zero everywhere."""
    net.features[2].bias.data[3] = -50.0  # type: ignore[index, union-attr]


def no_gradient(net: Split) -> None:
    """No class depends on the layer."""
    net.fc.weight.data.zero_()


def huge(net: Split) -> None:
    """Squares and cubes of these gradients leave the range of float32, not of the answer."""
    net.fc.weight.data *= 1e15


DAMAGES: list[Callable[[Split], None]] = [
    constant_activations,
    dead_layer,
    one_dead_channel,
    no_gradient,
    huge,
]


@EVERY
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_degenerate_layers_give_finite_maps(
    name: str, damage: Callable[[Split], None], dtype: torch.dtype
) -> None:
    net, x = network(name), images(2).to(dtype)
    damage(net)
    explanation = explain(net.to(dtype), x, method=name, target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert torch.isfinite(maps).all()
    assert (explanation.maps >= 0).all()
    assert (explanation.maps <= 1).all()


PATTERNS = [
    *(name for name in AT_A_LAYER if name not in ("cam", "fakecam")),
    "eigencam:variant=grad-cam",
    "eigengradcam:variant=grad-cam",
    "kpcacam:variant=grad-cam",
    "kpcacam:kernel=rbf",
    "xgradcam:variant=grad-cam",
]


@pytest.mark.parametrize("spec", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_rounding_noise_is_not_a_pattern(spec: str, dtype: torch.dtype) -> None:
    """Constant activations have nothing to show: the picture must not be amplified noise.

    A circular network keeps the border from being a pattern of its own: activations and gradients
    are constants, up to rounding.
    """
    net, x = DeepNet(seed=1, circular=True), images(2).to(dtype)
    constant_activations(net)
    explanation = explain(net.to(dtype), x, method=spec, target=1, layers="features")
    assert explanation.maps.flatten(1).std(1).max() < 1e-6
    assert explanation.issues


@EVERY
def test_a_single_position(name: str) -> None:
    """A 1x1 layer can show nothing; it must not divide by its own lack of spread."""
    net, x = network(name), images(2, size=(1, 1))
    explanation = explain(net, x, method=name, target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert maps.shape == (2, 1, 1)
        assert torch.isfinite(maps).all()
    assert explanation.issues
