"""Our targets equal those of the released grad-cam, as numbers, as gradients and as maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_grad_cam as peer
import torch
import torchvision
from pytorch_grad_cam.utils import model_targets as theirs
from torch import Tensor, nn

from camkit import explain
from camkit_core import ClassTarget, Target
from camkit_tasks import Binary, ClassMask, Finer, Probability, Raw, Region, Rest

from .parity_helpers import (
    LAYERS,
    as_double,
    classifier,
    gap,
    network,
    one_thread,
    pictures,
    require,
    resize_and_scale,
    top_classes,
)

CLOSE = 1e-5


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("grad-cam")
    with one_thread():
        yield


# --- numbers ---------------------------------------------------------------------------------


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


MASK = torch.rand(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

PAIRS: dict[str, tuple[Target, Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "logit": (ClassTarget(3), theirs.ClassifierOutputTarget(3), (7,)),
    "probability": (Probability(3), theirs.ClassifierOutputSoftmaxTarget(3), (7,)),
    "rest": (Rest(3), theirs.ClassifierOutputReST(3), (7,)),
    "finer": (
        Finer(3, against=(1, 5), variant="grad-cam"),
        theirs.FinerWeightedTarget(3, [1, 5], 1),
        (7,),
    ),
    "finer, alpha": (
        Finer(3, against=(0,), variant="grad-cam", strength=0.3),
        theirs.FinerWeightedTarget(3, [0], 0.3),
        (7,),
    ),
    "binary, positive": (Binary(positive=True), theirs.BinaryClassifierOutputTarget(1), (1,)),
    "binary, negative": (Binary(positive=False), theirs.BinaryClassifierOutputTarget(0), (1,)),
    "raw": (Raw(), theirs.RawScoresOutputTarget(), (1,)),
    "mask": (
        Region(2, mask=MASK),
        theirs.SemanticSegmentationTarget(2, MASK.numpy()),
        (5, 4, 6),
    ),
    "mask of booleans": (
        Region(2, mask=MASK > 0.5),
        theirs.SemanticSegmentationTarget(2, (MASK > 0.5).numpy()),
        (5, 4, 6),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_score_with_the_same_gradient(name: str) -> None:
    ours, peers, shape = PAIRS[name]
    rows = numbers(4, *shape).requires_grad_()
    bound = ours.bind(numbers(3, *shape, seed=1), _no_run)
    values = bound(rows, torch.tensor([0, 2, 1, 1]))
    wanted = torch.stack([peers(row).reshape(()) for row in rows])
    torch.testing.assert_close(values, wanted, rtol=CLOSE, atol=CLOSE)
    (found,) = torch.autograd.grad(values.sum(), rows, retain_graph=True)
    (gradient,) = torch.autograd.grad(wanted.sum(), rows)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(found, gradient, rtol=CLOSE, atol=CLOSE)


def _no_run(inputs: Any) -> Any:
    raise AssertionError("these targets need no further run")


# --- maps ------------------------------------------------------------------------------------


def undecided(name: str, x: Tensor) -> nn.Module:
    """A network whose softmax is not saturated, as the peer's weights need."""
    net = network(name)
    with torch.no_grad():
        classifier(net).weight *= 3 / net(x).std(1).mean()
    return net


def peer_finer(net: nn.Module, layer: str, x: Tensor, **words: Any) -> Tensor:
    cam = peer.FinerCAM(net, [net.get_submodule(layer)], base_method=peer.GradCAM)
    try:
        return as_double(cam(x, **words))
    finally:
        cam.base_cam.activations_and_grads.release()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("alpha", [1, 0.4])
def test_the_same_finer_cam_with_references_of_its_own(name: str, alpha: float) -> None:
    layer, x = LAYERS[name][0], pictures(3, seed=5)
    net = undecided(name, x)
    target = Finer(variant="grad-cam", strength=None if alpha == 1 else alpha)
    ours = explain(net, x, target=target, layers=layer)
    assert gap(ours.maps, peer_finer(undecided(name, x), layer, x, alpha=alpha)) < CLOSE
    # Not the map of the class alone.
    assert (ours.maps - explain(net, x, layers=layer).maps).abs().max() > 0.01


def test_the_same_finer_cam_in_words() -> None:
    layer, x = LAYERS["resnet18"][0], pictures(2, seed=6)
    net, twin = undecided("resnet18", x), undecided("resnet18", x)
    ours = explain(net, x, target="finer:7,variant=grad-cam", layers=layer)
    assert gap(ours.maps, peer_finer(twin, layer, x, target_idx=7)) < CLOSE


def test_the_papers_finer_cam_is_the_mean_of_its_contrasts() -> None:
    """Grad-CAM is linear in the score before the ReLU, and so is what the paper averages."""
    net, layer, x = network("resnet18"), LAYERS["resnet18"][0], pictures(2, seed=6)
    (first, second) = (explain(net, x, target=k, layers=layer).raw[layer] for k in (7, 11))
    alone = explain(net, x, target=3, layers=layer).raw[layer]
    ours = explain(net, x, target="3-vs-7,11", layers=layer).raw[layer]
    wanted = ((alone - 0.6 * first) + (alone - 0.6 * second)) / 2
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-12)


# --- segmentation ----------------------------------------------------------------------------


class Logits(nn.Module):
    """What grad-cam's tutorial wraps around a segmentation network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """The maps alone."""
        maps: Tensor = self.net(x)["out"]
        return maps


def segmented() -> Tensor:
    """The image."""
    return pictures(1, seed=23, size=(64, 96))


def segmentation() -> nn.Module:
    """A seeded DeepLabV3 that predicts several classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        net = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=6
        ).double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # type: ignore[assignment]
        net.train()
        with torch.no_grad():
            net(pictures(4, seed=21, size=(64, 96)))
        net.eval()
        with torch.no_grad():
            maps = net(segmented())["out"]
            # All classes equally strong on the image, so that several of them win somewhere.
            net.classifier[-1].bias -= maps.mean((0, 2, 3))
            for parameter in net.classifier[-1].parameters():
                parameter *= 100 / maps.std()
    return net


SEGMENTED: dict[str, str] = {"backbone.16": "the last block", "backbone.6": "a block in the middle"}


@pytest.mark.parametrize("layer", SEGMENTED)
def test_the_same_map_of_a_segmentation(layer: str) -> None:
    net, x = segmentation(), segmented()
    with torch.no_grad():
        winners = net(x)["out"].argmax(1)[0]
    counts = winners.flatten().bincount(minlength=6)
    assert (counts > 0).sum() >= 3, counts
    index = int(counts.argsort(descending=True)[1])
    wrapped = Logits(net)
    cam = peer.GradCAM(wrapped, [wrapped.get_submodule(f"net.{layer}")])
    mask = (winners == index).numpy().astype("float64")
    try:
        wanted = cam(x, [theirs.SemanticSegmentationTarget(index, mask)])
    finally:
        cam.activations_and_grads.release()
    for target in (index, "pred:1", ClassMask(index), Region(index, mask=winners == index)):
        found = explain(net, x, target=target, layers=layer)
        assert gap(found.maps, wanted) < CLOSE
        assert found.target.classes is not None
        assert found.target.classes.tolist() == [index]


def test_the_default_layer_of_a_segmentation_shows_the_same() -> None:
    net, x = segmentation(), segmented()
    found = explain(net, x)
    (layer,) = found.provenance.layers
    by_hand = explain(net, x, target=ClassMask(), layers=layer)
    torch.testing.assert_close(found.maps, by_hand.maps)
    assert gap(found.maps, resize_and_scale([found.raw[layer]], (64, 96))) < CLOSE


def test_each_image_of_a_batch_has_its_own_class() -> None:
    net, x = network("resnet18"), pictures(3, seed=5)
    found = explain(net, x, target="finer", layers="layer4")
    assert found.target.classes is not None
    assert found.target.classes.tolist() == top_classes(net, x)
