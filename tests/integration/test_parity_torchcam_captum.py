"""Equal to the released torchcam and captum, wherever they are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchcam.methods as peer
from captum.attr import LayerGradCam
from torch import Tensor, nn

from camkit import explain

from .parity_helpers import (
    LAYERS,
    assert_live,
    network,
    one_thread,
    pictures,
    relative_gap,
    require,
    shielded,
    top_classes,
)

CLOSE = 1e-6
EASY = ("resnet18", "mobilenet_v3_small")
NETWORK = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in EASY else pytest.mark.slow) for n in LAYERS]
)
BATCH = pytest.mark.parametrize("batch", [1, 3])

METHODS = {
    "gradcam": peer.GradCAM,
    "xgradcam": peer.XGradCAM,
    "layercam": peer.LayerCAM,
    "gradcampp:variant=torchcam": peer.GradCAMpp,
}


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_releases() -> Iterator[None]:
    require("torchcam")
    require("captum")
    with one_thread():
        yield


def torchcam_maps(
    cls: Any, net: nn.Module, layers: list[str], x: Tensor, classes: list[int]
) -> list[Tensor]:
    """Maps of torchcam per layer, at layer resolution, not normalised."""
    with cls(net, target_layer=layers if len(layers) > 1 else layers[0]) as extractor:
        scores = net(x.clone().requires_grad_())
        if cls is peer.CAM:
            return [m.detach() for m in extractor(classes, normalized=False)]
        return [m.detach() for m in extractor(classes, scores, normalized=False)]


@NETWORK
@BATCH
@pytest.mark.parametrize("depth", [1, 2], ids=["one_layer", "two_layers"])
@pytest.mark.parametrize("spec", METHODS)
def test_torchcam(spec: str, name: str, batch: int, depth: int) -> None:
    net, x, layers = network(name), pictures(batch, seed=31), list(LAYERS[name][:depth])
    classes = top_classes(net, x)
    ours = explain(net, x, method=spec, target=classes, layers=layers)
    theirs = torchcam_maps(METHODS[spec], net, layers, x, classes)
    # torchcam adds 1e-8 to the sum of activations, which may cancel to little more
    tolerance = 1e-4 if spec == "xgradcam" else CLOSE
    for layer, map_ in zip(layers, theirs, strict=True):
        assert relative_gap(ours.raw[layer].clamp_min(0), map_) < tolerance


@pytest.mark.parametrize("batch", [1, 3])
def test_torchcam_cam(batch: int) -> None:
    net, x = network("resnet18"), pictures(batch, seed=32)
    classes = top_classes(net, x)
    ours = explain(net, x, method="cam", target=classes, layers="layer4").raw["layer4"]
    (theirs,) = torchcam_maps(peer.CAM, net, ["layer4"], x, classes)
    assert relative_gap(ours, theirs) < CLOSE


def test_torchcam_layer_that_is_overwritten_in_place() -> None:
    """torchcam keeps the tensor that the next in-place ReLU overwrites."""
    net, x, layer = network("resnet18"), pictures(2, seed=33), "layer4.1.bn1"
    classes = top_classes(net, x)
    twin, inner = shielded(net, layer)
    ours = explain(net, x, method="gradcam", target=classes, layers=layer).raw[layer]
    (right,) = torchcam_maps(peer.GradCAM, twin, [inner], x, classes)
    (wrong,) = torchcam_maps(peer.GradCAM, net, [layer], x, classes)
    assert relative_gap(ours.clamp_min(0), right) < CLOSE
    assert relative_gap(wrong, right) > 1e-3, "in-place aliasing: torchcam is right now"


@NETWORK
@BATCH
@pytest.mark.parametrize("index", [0, 1])
def test_captum(name: str, batch: int, index: int) -> None:
    net, x, layer = network(name), pictures(batch, seed=34), LAYERS[name][index]
    classes = top_classes(net, x)
    ours = explain(net, x, method="gradcam", target=classes, layers=layer).raw[layer]
    explainer = LayerGradCam(net, net.get_submodule(layer))
    theirs = explainer.attribute(x, target=torch.tensor(classes), relu_attributions=False)
    assert relative_gap(ours, theirs.detach()[:, 0]) < CLOSE


@pytest.mark.parametrize("layer", ["layer1.0.bn1", "layer4.1.bn1"])
def test_captum_layer_that_is_overwritten_in_place(layer: str) -> None:
    """captum clones the output, and is right here."""
    net, x = network("resnet18"), pictures(2, seed=35)
    classes = top_classes(net, x)
    ours = explain(net, x, method="gradcam", target=classes, layers=layer).raw[layer]
    explainer = LayerGradCam(net, net.get_submodule(layer))
    theirs = explainer.attribute(x, target=torch.tensor(classes), relu_attributions=False)
    assert_live(theirs.detach()[:, 0])
    assert relative_gap(ours, theirs.detach()[:, 0]) < CLOSE
