"""Perturbation methods equal the released peers where they are right, and a loop over the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import pytorch_grad_cam as peer
import timm
import torch
import torchcam.methods as torchcam
import torchvision
from captum.attr import Occlusion
from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
from torch import Tensor, nn
from torch.nn import functional

from camkit import explain
from camkit_core import Need, default_registry

from .parity_helpers import (
    as_double,
    class_targets,
    gap,
    one_thread,
    pictures,
    require,
    resize_and_scale,
)


@dataclass(frozen=True)
class Net:
    """A network, its image size, and the layers that are compared."""

    make: Callable[[], nn.Module]
    layer: str  # where channels are ablated
    early: str  # with few enough channels to score each on a whole run
    kind: str = "picture"  # "tokens" and "channels last" need the peer's reshapes
    size: tuple[int, int] = (64, 64)


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A torchvision network with 20 classes."""
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=20, **options)


def image_models(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A timm network with 20 classes."""
    return lambda: timm.create_model(name, num_classes=20, **options)


ZOO = {
    "resnet18": Net(vision("resnet18"), "layer4", "layer1"),
    "vgg11": Net(vision("vgg11"), "features.20", "features.2"),
    "mobilenet_v3_small": Net(vision("mobilenet_v3_small"), "features.12", "features.4"),
    "densenet121": Net(vision("densenet121"), "features.denseblock4", "features.transition1.pool"),
    "densenet121 inside": Net(
        vision("densenet121"), "features.denseblock3.denselayer7", "features.conv0"
    ),
    "convnext_tiny": Net(vision("convnext_tiny"), "features.7", "features.1"),
    "vit_b_16": Net(
        vision("vit_b_16", image_size=64),
        "encoder.layers.encoder_layer_11.ln_1",
        "encoder.layers.encoder_layer_11.ln_1",
        "tokens",
    ),
    "swin_t": Net(vision("swin_t"), "features.7", "features.1", "channels last"),
    "timm resnet50": Net(image_models("resnet50"), "layer4", "layer1.0.act1"),
    "timm vit_small": Net(
        image_models("vit_small_patch16_224", img_size=64),
        "blocks.11.norm1",
        "blocks.11.norm1",
        "tokens",
    ),
    "timm swin_tiny": Net(
        image_models("swin_tiny_patch4_window7_224", img_size=64, window_size=2),
        "layers.3",
        "layers.0",
        "channels last",
    ),
    "timm efficientnet_b0": Net(image_models("efficientnet_b0"), "blocks.6", "blocks.1"),
}
FAST = ("resnet18", "mobilenet_v3_small")


def zoo(*names: str) -> Any:
    """The named networks, those that take long marked so."""
    rows = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in names or ZOO]
    return pytest.mark.parametrize("name", rows)


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_releases() -> Iterator[None]:
    for distribution in ("grad-cam", "torchcam", "captum"):
        require(distribution)
    with one_thread():
        yield


@cache
def network(name: str) -> nn.Module:
    """Seeded, in float64, with calibrated batch normalisation and scores that differ."""
    row = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = row.make().double()
        last = [m for m in net.modules() if isinstance(m, nn.Linear) and m.out_features == 20][-1]
        nn.init.normal_(last.weight, std=0.05)  # some begin with zeros
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # type: ignore[assignment]
        net.train(bool(norms))
        with torch.no_grad():
            for seed in range(3 if norms else 1):
                net(pictures(4, seed=100 + seed, size=row.size))
    net.eval()
    with torch.no_grad():
        scores = net(pictures(2, seed=1, size=row.size))
        last.weight.mul_(20 / (scores - scores.mean(1, keepdim=True)).std())
    return net.requires_grad_(False)


def asked(name: str, batch: int = 1) -> tuple[nn.Module, Tensor, list[int]]:
    """A network, images, and the strongest class of each."""
    net, x = network(name), pictures(batch, seed=21, size=ZOO[name].size)
    with torch.no_grad():
        return net, x, net(x).argmax(1).tolist()


class Look:
    """A method that keeps the weights of another."""

    name = "look"

    def __init__(self, method: Any) -> None:
        self.needs: Need = method.needs
        self._method = method

    def __call__(self, capture: Any) -> Tensor:
        self.weights: Tensor = self._method.weights(capture)
        return capture.activations.sum(1)


def our_weights(
    name: str, x: Tensor, classes: list[int], layer: str, method: str, **options: Any
) -> Tensor:
    """Channel weights `[N, K]` of one of our methods."""
    look = Look(default_registry().resolve("method", method)(**options))
    explain(network(name), x, method=look, target=classes, layers=layer)
    return look.weights


def as_picture(kind: str) -> Callable[[Tensor], Tensor] | None:
    """The peer's reshape of a layer."""
    if kind == "tokens":
        return lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    return (lambda t: t.permute(0, 3, 1, 2)) if kind == "channels last" else None


def peer_answer(
    cls: Any, name: str, layer: str, x: Tensor, classes: list[int], **options: Any
) -> tuple[Tensor, Tensor]:
    """Channel weights and pictures of a class of grad-cam."""
    net = network(name)
    words = {"reshape_transform": as_picture(ZOO[name].kind), **options.pop("words", {})}
    cam, kept = cls(net, [net.get_submodule(layer)], **words), []
    for key, value in options.items():
        setattr(cam, key, value)
    plain = cam.get_cam_weights

    def keep(*args: Any, **kwargs: Any) -> Any:
        kept.append(as_double(plain(*args, **kwargs)))
        return torch.as_tensor(kept[-1]).numpy()

    cam.get_cam_weights = keep
    try:
        picture = cam(x, class_targets(classes))
    finally:
        cam.activations_and_grads.release()
    return kept[0].reshape(len(x), -1), as_double(picture)


# --- Score-CAM -------------------------------------------------------------------------------


@zoo()
def test_scorecam_is_that_of_grad_cam(name: str) -> None:
    layer = ZOO[name].early
    net, x, classes = asked(name, batch=2 if name in FAST else 1)
    theirs, picture = peer_answer(peer.ScoreCAM, name, layer, x, classes)
    ours = our_weights(name, x, classes, layer, "scorecam", variant="grad-cam")
    off = (ours - theirs).abs().amax(1)
    assert (off / theirs.amax(1) < 1e-5).all()
    # Weights that are all alike would agree whatever the masks are.
    assert (off / (theirs.amax(1) - theirs.amin(1)) < 1e-3).all()
    maps = explain(net, x, "scorecam:variant=grad-cam", classes, layer).maps
    assert gap(maps, picture) < 1e-5


@zoo("resnet18", "mobilenet_v3_small", "vgg11", "densenet121", "convnext_tiny")
@pytest.mark.parametrize("method", ["scorecam", "iscam"])
def test_scorecam_and_iscam_are_those_of_torchcam(method: str, name: str) -> None:
    layer = ZOO[name].early
    net, x, classes = asked(name)
    cls = {"scorecam": torchcam.ScoreCAM, "iscam": torchcam.ISCAM}[method]
    words = {"steps": 3} if method == "iscam" else {}
    with cls(net, layer, **({"num_samples": 3} if words else {})) as extractor, torch.no_grad():
        net(x)
        (theirs,) = extractor(classes, normalized=False)
    ours = explain(net, x, method, classes, layer, variant="torchcam", **words).raw[layer].relu()
    assert gap(ours, theirs) / float(theirs.max()) < 1e-6


# --- Ablation-CAM ----------------------------------------------------------------------------


@zoo(*(name for name, row in ZOO.items() if row.kind != "tokens"))
def test_ablationcam_is_that_of_grad_cam(name: str) -> None:
    """Its float32 scores leave seven digits of the score, not of the drop.

    Where activations are negative the peer depends on its own batch size; 1 is what it means. Of
    tokens it ablates the class token as well, which is no position of the map; we do not.
    """
    row = ZOO[name]
    net, x, classes = asked(name)
    signed = bool(min(float(a.min()) for a in activations(net, row.layer, x)) < 0)
    layer = AblationLayer() if row.kind == "picture" else AblationLayerVit()
    words = {"batch_size": 1 if signed else 32, "ablation_layer": layer}
    theirs, picture = peer_answer(peer.AblationCAM, name, row.layer, x, classes, words=words)
    ours = our_weights(name, x, classes, row.layer, "ablationcam", variant="grad-cam")
    assert theirs.abs().max() > 1e-2
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
    maps = explain(net, x, "ablationcam:variant=grad-cam", classes, row.layer).maps
    if maps.max() > 0:  # else nothing is positive, in the peer's picture either
        assert gap(maps, picture) < 1e-4
    else:
        assert picture.max() == 0


def activations(net: nn.Module, layer: str, x: Tensor) -> list[Tensor]:
    """What a layer returns."""
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(
        lambda module, args, output: kept.append(output.clone())
    )
    with torch.no_grad():
        net(x)
    handle.remove()
    return kept


@zoo()
def test_ablationcam_is_the_brute_force_loop(name: str) -> None:
    """Replace a channel by a hook, run the whole model: float64, to 1e-9."""
    row, (net, x, classes) = ZOO[name], asked(name)
    (output,) = activations(net, row.layer, x)
    axis = 1 if row.kind == "picture" else output.ndim - 1
    first = 1 if row.kind == "tokens" else 0  # the class token is no position
    ours = our_weights(name, x, classes, row.layer, "ablationcam")
    chosen = ours.abs().argsort(1, descending=True)[0, :: max(ours.shape[1] // 8, 1)].tolist()
    for channel in chosen:

        def without(module: nn.Module, args: Any, found: Tensor, channel: int = channel) -> Tensor:
            changed = found.clone()
            changed.movedim(axis, 1)[:, channel, ..., first:] = 0
            return changed

        with torch.no_grad():
            clean = net(x)[0, classes[0]]
            handle = net.get_submodule(row.layer).register_forward_hook(without)
            drop = clean - net(x)[0, classes[0]]
            handle.remove()
        assert abs(float(ours[0, channel] - drop)) < 1e-9 * max(float(ours.abs().max()), 1e-3)
    assert ours.abs().max() > 1e-3


def test_the_peer_depends_on_its_batch_size_and_we_do_not() -> None:
    """grad-cam measures the minimum again after every edit, which negative values show."""
    name, layer = "mobilenet_v3_small", "features.9"
    net, x, classes = asked(name)
    assert float(activations(net, layer, x)[0].min()) < 0
    theirs = [
        peer_answer(peer.AblationCAM, name, layer, x, classes, words={"batch_size": size})[0]
        for size in (1, 16)
    ]
    assert float((theirs[0] - theirs[1]).abs().max()) > 1e-2 * float(theirs[0].abs().max())
    method = "ablationcam:variant=grad-cam"
    ours = [explain(net, x, method, classes, layer, batch_size=size).raw[layer] for size in (1, 16)]
    torch.testing.assert_close(ours[0], ours[1], rtol=1e-8, atol=0)


# --- occlusion -------------------------------------------------------------------------------


@zoo("resnet18", "mobilenet_v3_small", "convnext_tiny")
@pytest.mark.parametrize(("window", "stride"), [(16, 8), (20, 12)])
def test_occlusion_is_that_of_captum(name: str, window: int, stride: int) -> None:
    net, x, classes = asked(name, batch=2)
    theirs = Occlusion(net).attribute(
        x,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        target=torch.tensor(classes),
        baselines=0.25,
    )[:, 0]
    spec = f"occlusion:window={window},stride={stride},fill=0.25"
    ours = explain(net, x, spec, classes).raw["input"]
    assert gap(ours, theirs) / float(theirs.abs().max()) < 1e-6  # captum adds up in float32


def test_pictures_are_resized_as_the_peer_does() -> None:
    """The display map of Score-CAM is that of the raw map, by the incumbent's own steps."""
    net, x, classes = asked("resnet18")
    found = explain(net, x, "scorecam:variant=grad-cam", classes, "layer1")
    assert gap(found.maps, resize_and_scale([found.raw["layer1"]], ZOO["resnet18"].size)) < 1e-6
    assert functional.relu(found.raw["layer1"]).max() > 0
