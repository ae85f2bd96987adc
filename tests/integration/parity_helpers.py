"""Networks, pinned peers and the incumbent's post-processing, for the parity tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from camkit import explain

SIZE = (96, 128)
PINNED = {"grad-cam": "1.5.7", "torchcam": "0.5.0", "captum": "0.9.0"}

LAYERS: dict[str, tuple[str, str]] = {
    "resnet18": ("layer4", "layer3"),
    "vgg11": ("features.20", "features.10"),
    "mobilenet_v3_small": ("features.12", "features.8"),
    "densenet121": ("features.denseblock4", "features.denseblock3"),
}


def require(distribution: str) -> None:
    """Fail, rather than compare with a release whose faults are unknown."""
    wanted = PINNED[distribution]
    try:
        found = version(distribution)
    except PackageNotFoundError:
        found = "nothing"
    assert found == wanted, (
        f"parity is stated for {distribution} {wanted}, but {found} is installed: "
        f"install {distribution}=={wanted}, or review these tests for the other release"
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """These images are too small for several; the setting is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pictures(n: int, seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Synthetic images `[n, 3, H, W]`, float64: smooth fields, a bright disc, some noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    smooth = functional.interpolate(normal(n, 3, 5, 7), size=size, mode="bicubic")
    rows = torch.linspace(-1, 1, size[0], dtype=torch.float64)[:, None]
    columns = torch.linspace(-1, 1, size[1], dtype=torch.float64)
    centers = normal(n, 2, 1, 1, 1) / 3
    disc = ((rows - centers[:, 0]) ** 2 + (columns - centers[:, 1]) ** 2 < 0.1).double()
    return smooth + 2 * disc * normal(n, 3, 1, 1).sign() + 0.2 * normal(n, 3, *size)


def classifier(net: nn.Module) -> nn.Linear:
    """The last linear layer."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


@cache
def _prepared(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = torchvision.models.get_model(name, weights=None, num_classes=20).double()
        _calibrate(net)
    net.eval()
    layer, x = net.get_submodule(LAYERS[name][0]), pictures(2, seed=1)
    classifier(net).weight.data *= 1.0 / _gradient_size(net, layer, x)
    return net


def _calibrate(net: nn.Module) -> None:
    """Three batches in train mode give the batch normalisations real statistics."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # type: ignore[assignment]
    net.train()
    with torch.no_grad():
        for seed in range(3):
            net(pictures(4, seed=100 + seed))


def _gradient_size(net: nn.Module, layer: nn.Module, x: Tensor) -> float:
    """Typical gradient at a layer, so that the incumbent's absolute 1e-6 can be left far below."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        score = net(x).max(1).values.sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    return float(gradient.abs().mean())


def network(name: str) -> nn.Module:
    """A fresh copy of a seeded, calibrated torchvision network in float64.

    Large linear layers (a gigabyte in VGG) are frozen and shared between the copies; a test may
    change the last one.
    """
    prepared = _prepared(name)
    last = classifier(prepared)
    shared = [
        parameter
        for module in prepared.modules()
        if isinstance(module, nn.Linear) and module is not last
        for parameter in module.parameters()
    ]
    return copy.deepcopy(prepared, {id(p): p.requires_grad_(False) for p in shared})


class Copy(nn.Module):
    """Hands on a copy of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """The same values in other memory."""
        return x.clone()


def shielded(net: nn.Module, layer: str) -> tuple[nn.Module, str]:
    """The same network with a copy after one layer, and the layer's name there.

    Whatever works in place after the layer works on the copy.
    """
    twin = copy.deepcopy(net, {id(p): p for p in net.parameters()})
    parent, _, child = layer.rpartition(".")
    module = twin.get_submodule(layer)
    setattr(twin.get_submodule(parent), child, nn.Sequential(module, Copy()))
    return twin, f"{layer}.0"


def top_classes(net: nn.Module, x: Tensor) -> list[int]:
    """Top-1 of each image."""
    with torch.no_grad():
        return net(x).argmax(1).tolist()


def resize_and_scale(layers: Sequence[Tensor], size: tuple[int, ...]) -> Tensor:
    """The incumbent's picture of raw maps: ReLU, [0, 1], bilinear, mean over layers, [0, 1]."""
    resized = [
        functional.interpolate(unit(raw.clamp_min(0))[:, None], size=size, mode="bilinear")[:, 0]
        for raw in layers
    ]
    return unit(torch.stack(resized).mean(0))


def unit(maps: Tensor) -> Tensor:
    """Each image to [0, 1]."""
    low = maps.flatten(1).amin(1).reshape(-1, *(1,) * (maps.ndim - 1))
    high = (maps - low).flatten(1).amax(1).reshape(low.shape)
    return (maps - low) / high


def best_signs(layers: Sequence[Tensor], size: tuple[int, ...], theirs: Tensor) -> Tensor:
    """Our picture with, for each image, the signs per layer that fit the peer best."""
    candidates = [
        resize_and_scale([s * raw for s, raw in zip(signs, layers, strict=True)], size)
        for signs in product((1, -1), repeat=len(layers))
    ]
    chosen = []
    for index, wanted in enumerate(theirs):
        options = [one[index] for one in candidates if torch.isfinite(one[index]).all()]
        chosen.append(min(options, key=lambda one: float((one - wanted).abs().max())))
    return torch.stack(chosen)


def as_double(maps: Tensor | NDArray[Any]) -> Tensor:
    """Float64 tensor."""
    return torch.as_tensor(np.asarray(maps) if not isinstance(maps, Tensor) else maps).double()


def assert_live(maps: Tensor | NDArray[Any]) -> None:
    """Each image's map is finite, neither empty nor constant."""
    for index, one in enumerate(as_double(maps).flatten(1)):
        assert torch.isfinite(one).all(), f"image {index}: not finite"
        assert one.abs().max() > 0, f"image {index}: empty map, the comparison proves nothing"
        assert one.std() > 1e-2 * one.abs().max(), f"image {index}: constant map"


def gap(ours: Tensor | NDArray[Any], theirs: Tensor | NDArray[Any]) -> float:
    """Largest absolute difference, of maps that are live."""
    ours, theirs = as_double(ours), as_double(theirs)
    assert ours.shape == theirs.shape
    assert_live(ours)
    assert_live(theirs)
    return float((ours - theirs).abs().max())


def relative_gap(ours: Tensor, theirs: Tensor) -> float:
    """As `gap`, in units of the largest value."""
    return gap(ours, theirs) / float(theirs.abs().max())


def peer_picture(
    cls: Callable[..., Any],
    net: nn.Module,
    layers: Sequence[str],
    x: Tensor,
    targets: Sequence[Callable[[Tensor], Tensor]],
) -> NDArray[np.float32]:
    """What a class of grad-cam returns. The caller owns `net`: the peer leaves traces on it."""
    cam = cls(net, [net.get_submodule(layer) for layer in layers])
    try:
        picture: NDArray[np.float32] = cam(x, list(targets))
    finally:
        cam.activations_and_grads.release()
    return picture


def class_targets(classes: list[int]) -> list[Any]:
    """The peer's spelling of class indices."""
    return [ClassifierOutputTarget(index) for index in classes]


def ours(net: nn.Module, x: Tensor, spec: str, target: Any, layers: list[str]) -> Any:
    """Our explanation; its picture is what is compared."""
    return explain(net, x, method=spec, target=target, layers=layers)


def rest(index: int) -> Callable[[Tensor], Tensor]:
    """Logit plus log-probability of a class."""
    return lambda output: output[index] + functional.log_softmax(output, -1)[index]
