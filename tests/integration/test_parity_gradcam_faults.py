"""The right answer, where the released grad-cam is wrong; each test names the fault."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import pytorch_grad_cam as peer
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST
from torch import Tensor, nn
from torch.nn import functional

from camkit import explain
from camkit_core import CaptureError, LayerError, TargetError

from .parity_helpers import (
    SIZE,
    assert_live,
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
    shielded,
    top_classes,
)

CLOSE = 1e-5

PEERS = {
    "gradcam": peer.GradCAM,
    "fem": peer.FEM,
    "xgradcam": peer.XGradCAM,
    "hirescam": peer.HiResCAM,
    "layercam": peer.LayerCAM,
    "gradcamelementwise": peer.GradCAMElementWise,
}


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("grad-cam")
    with one_thread():
        yield


# --- in-place activations --------------------------------------------------------------------


OVERWRITTEN = [
    ("resnet18", "layer1.0.bn1"),  # in-place ReLU
    ("resnet18", "layer4.1.bn1"),
    ("resnet18", "layer4.1.bn2"),  # in-place addition of the shortcut, then in-place ReLU
    pytest.param("vgg11", "features.18", marks=pytest.mark.slow),
    pytest.param("densenet121", "features.norm5", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "layer"), OVERWRITTEN)
@pytest.mark.parametrize(
    "spec", ["gradcam", "fem", "xgradcam", "hirescam", "layercam", "gradcamelementwise"]
)
def test_layer_that_is_overwritten_in_place(spec: str, name: str, layer: str) -> None:
    """The peer keeps a view of the output, which the next in-place operation then overwrites.

    With a copy after the layer the peer is right, and equals us. An in-place ReLU leaves the
    products at each position alone, because the gradient is zero where it clamps.
    """
    net, x = network(name), pictures(2, seed=16)
    cls, tolerance = PEERS[spec], 1e-4 if spec == "xgradcam" else CLOSE
    twin, inner = shielded(net, layer)
    classes = top_classes(net, x)
    targets = class_targets(classes)
    maps = ours(net, x, spec, classes, [layer]).maps
    right = peer_picture(cls, twin, [inner], x, targets)
    wrong = peer_picture(cls, net, [layer], x, targets)
    assert gap(maps, right) < tolerance
    if layer.endswith("bn2") or spec in ("gradcam", "fem", "xgradcam"):
        assert float(abs(right - wrong).max()) > 1e-3, "in-place aliasing: the peer is right now"


# --- other faults ----------------------------------------------------------------------------


def test_fewer_targets_than_images() -> None:
    """The peer zips targets with outputs and returns empty maps for the rest."""
    net, x = network("resnet18"), pictures(3, seed=17)
    classes = top_classes(net, x)
    theirs = peer_picture(peer.GradCAM, net, ["layer4"], x, class_targets(classes[:1]))
    assert_live(theirs[:1])
    assert (theirs[1:] == 0).all(), "missing targets: the peer no longer returns empty maps"
    with pytest.raises(TargetError, match=r"1 target.*3 images"):
        ours(net, x, "gradcam", classes[:1], ["layer4"])


class Reused(nn.Module):
    """One activation module called twice."""

    def __init__(self, separate: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.fc = nn.Linear(8, 6)
        self.relu = nn.ReLU()
        self.other = nn.ReLU() if separate else self.relu
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.other(self.two(self.relu(self.one(x)))).mean((2, 3)))


def test_module_that_runs_twice() -> None:
    """The peer silently explains the first call; we ask which call is meant."""
    net, twin, x = Reused(separate=False), Reused(separate=True), pictures(2, 18, (24, 32))
    targets = class_targets(top_classes(net, x))
    theirs = peer_picture(peer.HiResCAM, net, ["relu"], x, targets)
    last = peer_picture(peer.HiResCAM, twin, ["other"], x, targets)
    first = peer_picture(peer.HiResCAM, twin, ["relu"], x, targets)
    assert float(abs(theirs - last).max()) > 1e-3, "reused module: the peer explains the last call"
    classes = top_classes(net, x)
    with pytest.raises((LayerError, CaptureError), match="relu#"):
        ours(net, x, "hirescam", classes, ["relu"])
    assert gap(ours(net, x, "hirescam", classes, ["relu#0"]).maps, first) < CLOSE
    assert gap(ours(net, x, "hirescam", classes, ["relu#1"]).maps, last) < CLOSE


def test_shapleycam_at_two_layers() -> None:
    """The peer frees its graph after the first layer; ours is the mean of the two pictures."""
    net, x, layers = network("resnet18"), pictures(2, seed=19), ["layer4", "layer3"]
    classes = top_classes(net, x)
    classifier(net).weight.data *= 2 / float(net(x).detach().std())
    peers = [ClassifierOutputReST(index) for index in classes]
    with pytest.raises(RuntimeError, match="second time"):
        peer_picture(peer.ShapleyCAM, net, layers, x, peers)
    targets = [rest(index) for index in classes]
    both = ours(net, x, "shapleycam", targets, layers)
    for layer in layers:
        theirs = peer_picture(peer.ShapleyCAM, net, [layer], x, peers)
        alone = ours(net, x, "shapleycam", targets, [layer])
        assert gap(alone.maps, theirs) < CLOSE
        assert gap(both.raw[layer], alone.raw[layer]) < 1e-9 * float(alone.raw[layer].abs().max())
    assert gap(both.maps, resize_and_scale([both.raw[layer] for layer in layers], SIZE)) < 1e-6


def test_small_scores_keep_their_picture() -> None:
    """Logits times 1e-18: the same picture; the peer's absolute 1e-7 fades it."""
    net, x = network("resnet18"), pictures(2, seed=20)
    classes = top_classes(net, x)
    before = ours(net, x, "gradcam", classes, ["layer4"]).maps
    faint = copy.deepcopy(net)
    classifier(faint).weight.data *= 1e-18
    classifier(faint).bias.data *= 1e-18
    assert gap(ours(faint, x, "gradcam", classes, ["layer4"]).maps, before) < 1e-9
    theirs = peer_picture(peer.GradCAM, faint, ["layer4"], x, class_targets(classes))
    assert float(abs(theirs - before.numpy()).max()) > 1e-2, (
        "absolute epsilon: the peer is right now"
    )


def test_gradcampp_follows_the_paper_at_realistic_gradients() -> None:
    """At gradients of 1e-4 the peer's 1e-6 outweighs 2 G^2: alpha is 1e6 G^2, not near 1/2.

    The default follows equation 19, evaluated here in plain torch; the variant follows the peer.
    """
    net, x, layers = network("resnet18"), pictures(2, seed=21), ["layer3"]
    classes = top_classes(net, x)
    classifier(net).weight.data *= 1e-4
    theirs = peer_picture(peer.GradCAMPlusPlus, net, layers, x, class_targets(classes))
    a, g = activations_and_gradients(net, net.layer3, x, classes)
    alpha = 1 / (2 + g * a.sum((2, 3), keepdim=True))
    w = torch.where(g != 0, alpha * g.clamp_min(0), 0).sum((2, 3), keepdim=True)
    expected = resize_and_scale([(w * a).sum(1)], SIZE)
    assert gap(ours(net, x, "gradcampp", classes, layers).maps, expected) < CLOSE
    assert gap(ours(net, x, "gradcampp:variant=grad-cam", classes, layers).maps, theirs) < CLOSE
    assert float(abs(theirs - expected.numpy()).max()) > 1e-2, "absolute epsilon in eq. 19: fixed"


def activations_and_gradients(
    net: nn.Module, layer: nn.Module, x: Tensor, classes: list[int]
) -> tuple[Tensor, Tensor]:
    """Output of a layer that nothing overwrites, and the gradient of the classes there."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        score = net(x)[range(len(classes)), classes].sum()
    finally:
        handle.remove()
    (g,) = torch.autograd.grad(score, kept)
    return kept[0].detach(), g


class Volume(nn.Module):
    """A 3-D network with a coarse last layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.body = nn.Sequential(nn.Conv3d(1, 6, 3, stride=3), nn.ReLU())
            self.head = nn.Conv3d(6, 8, 2)
            self.fc = nn.Linear(8, 5)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head(self.body(x)).relu().mean((2, 3, 4)))


def test_volumes_are_resized_without_ringing() -> None:
    """The peer uses cubic splines, which overshoot; ours are trilinear and stay between."""
    net, x = Volume(), pictures(2, 22, (12, 15 * 18))[:, :1].reshape(2, 1, 12, 15, 18)
    classes = top_classes(net, x)
    explanation = explain(net, x, method="layercam", target=classes, layers="body")
    expected = functional.interpolate(
        positive_unit(explanation.raw["body"])[:, None], size=x.shape[2:], mode="trilinear"
    )[:, 0]
    low = expected.amin((1, 2, 3), keepdim=True)
    expected = (expected - low) / (expected.amax((1, 2, 3), keepdim=True) - low)
    assert gap(explanation.maps, expected) < 1e-6
    theirs = peer_picture(peer.LayerCAM, net, ["body"], x, class_targets(classes))
    assert float(abs(theirs - expected.numpy()).max()) > 1e-3, "cubic resize of volumes: fixed"


def positive_unit(raw: Tensor) -> Tensor:
    """Positive part, each image to [0, 1]."""
    positive = raw.clamp_min(0)
    axes = tuple(range(1, raw.ndim))
    low = positive.amin(axes, keepdim=True)
    return (positive - low) / (positive - low).amax(axes, keepdim=True)


def test_xgradcam_without_blowing_up_on_cancelling_activations() -> None:
    """A channel that sums to -1e-7 (the peer's epsilon) makes its weight infinite."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = nn.Sequential(
            nn.Conv2d(3, 3, 1, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(144, 4)
        )
    net = net.double().eval()
    net[0].weight.data = torch.eye(3, dtype=torch.float64)[:, :, None, None]
    x = pictures(1, 23, (6, 8))
    x[0, 1] -= x[0, 1].mean() + 1e-7 / 48
    maps = explain(net, x, method="xgradcam", target=1, layers="0").raw["0"]
    a, g = activations_and_gradients(net, net[0], x, [1])
    w = (g * a).sum((2, 3), keepdim=True) / a.sum((2, 3), keepdim=True)
    assert gap(maps, (w * a).sum(1)) < 1e-9 * float(maps.abs().max())
    theirs = peer_picture(peer.XGradCAM, net, ["0"], x, class_targets([1]))
    right = resize_and_scale([maps], (6, 8))
    assert float(abs(theirs - right.numpy()).max()) > 1e-3, "epsilon in a signed sum: fixed"
