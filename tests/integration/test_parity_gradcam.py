"""Equal to the released grad-cam, wherever it is right; the right answer, wherever it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_grad_cam as peer
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST
from torch import Tensor

from .parity_helpers import (
    LAYERS,
    SIZE,
    best_signs,
    class_targets,
    classifier,
    gap,
    network,
    one_thread,
    ours,
    peer_picture,
    pictures,
    require,
    resize_and_scale,
    rest,
    top_classes,
)

CLOSE = 1e-5

METHODS: dict[str, tuple[Any, float]] = {
    "gradcam": (peer.GradCAM, CLOSE),
    "hirescam": (peer.HiResCAM, CLOSE),
    "gradcamelementwise": (peer.GradCAMElementWise, CLOSE),
    "layercam": (peer.LayerCAM, CLOSE),
    "xgradcam": (peer.XGradCAM, 1e-4),
    "xgradcam:variant=grad-cam": (peer.XGradCAM, CLOSE),
    "fem": (peer.FEM, CLOSE),
    "gradcampp:variant=grad-cam": (peer.GradCAMPlusPlus, CLOSE),
    "kpcacam:variant=grad-cam": (peer.KPCA_CAM, CLOSE),
}
UP_TO_SIGN: dict[str, Any] = {
    "eigencam:variant=grad-cam": peer.EigenCAM,
    "eigengradcam:variant=grad-cam": peer.EigenGradCAM,
}
SLOW = ("vgg11", "densenet121")
NETWORK = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in LAYERS]
)
DEPTH = pytest.mark.parametrize("depth", [1, 2], ids=["one_layer", "two_layers"])
BATCH = pytest.mark.parametrize("batch", [1, 3])


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("grad-cam")
    with one_thread():
        yield


# --- agreement -------------------------------------------------------------------------------


@NETWORK
@BATCH
@DEPTH
@pytest.mark.parametrize("spec", METHODS)
def test_same_picture(spec: str, name: str, batch: int, depth: int) -> None:
    cls, tolerance = METHODS[spec]
    net, x, layers = network(name), pictures(batch, seed=11), list(LAYERS[name][:depth])
    classes = top_classes(net, x)
    maps = ours(net, x, spec, classes, layers).maps
    assert maps.shape == (batch, *SIZE)
    assert gap(maps, peer_picture(cls, net, layers, x, class_targets(classes))) < tolerance


@NETWORK
@BATCH
@DEPTH
@pytest.mark.parametrize("spec", UP_TO_SIGN)
def test_same_picture_up_to_sign(spec: str, name: str, batch: int, depth: int) -> None:
    net, x, layers = network(name), pictures(batch, seed=12), list(LAYERS[name][:depth])
    classes = top_classes(net, x)
    explanation = ours(net, x, spec, classes, layers)
    raw = [explanation.raw[layer] for layer in layers]
    assert gap(explanation.maps, resize_and_scale(raw, SIZE)) < 1e-6
    theirs = peer_picture(UP_TO_SIGN[spec], net, layers, x, class_targets(classes))
    assert gap(best_signs(raw, SIZE, torch.from_numpy(theirs).double()), theirs) < CLOSE


@NETWORK
@BATCH
def test_same_picture_of_shapleycam(name: str, batch: int) -> None:
    """With the target it is meant for, which has a Hessian."""
    net, x, layers = network(name), pictures(batch, seed=13), [LAYERS[name][0]]
    classes = top_classes(net, x)
    logits = net(x).detach()
    # keep the softmax away from certainty, or the Hessian would be empty
    classifier(net).weight.data *= 2 / float(logits.std())
    targets = [rest(index) for index in classes]
    maps = ours(net, x, "shapleycam", targets, layers).maps
    theirs = peer_picture(
        peer.ShapleyCAM, net, layers, x, [ClassifierOutputReST(index) for index in classes]
    )
    assert gap(maps, theirs) < CLOSE
    assert gap(maps, ours(net, x, "gradcam", targets, layers).maps) > 1e-4


@pytest.mark.parametrize("spec", ["gradcam", "layercam", "hirescam"])
def test_same_picture_for_a_callable(spec: str) -> None:
    net, x, layers = network("resnet18"), pictures(3, seed=14), ["layer4"]

    def score(output: Tensor) -> Tensor:
        return output[3] - 0.5 * output[5]

    maps = ours(net, x, spec, score, layers).maps
    theirs = peer_picture(METHODS[spec][0], net, layers, x, [score] * 3)
    assert gap(maps, theirs) < CLOSE


def test_same_default_target() -> None:
    net, x = network("resnet18"), pictures(3, seed=15)
    cam = peer.GradCAM(net, [net.layer4])
    theirs = cam(x, None)
    cam.activations_and_grads.release()
    assert gap(ours(net, x, "gradcam", None, ["layer4"]).maps, theirs) < CLOSE
