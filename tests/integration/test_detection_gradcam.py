"""Detectors: equal to the released grad-cam where it is right, and right where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import pytorch_grad_cam as peer
import torch
from pytorch_grad_cam.utils.model_targets import FasterRCNNBoxScoreTarget
from pytorch_grad_cam.utils.reshape_transforms import fasterrcnn_reshape_transform
from torch import Tensor, nn
from torch.nn.functional import interpolate

from camkit import explain
from camkit_tasks.targets.detection_targets import Box, Boxes

from .detection_helpers import DETECTORS, SIZE, built, images, tiny
from .parity_helpers import best_signs, gap, one_thread, require

CLOSE = 1e-5
NAMES = pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        pytest.param("fasterrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)


@pytest.fixture(autouse=True, scope="module")
def _the_pinned_release() -> Iterator[None]:
    require("grad-cam")
    with one_thread():
        yield


def found(net: nn.Module, x: Tensor, count: int) -> list[dict[str, Tensor]]:
    """The best detections of every image."""
    with torch.no_grad():
        return [{name: one[name][:count] for name in one} for one in net(x)]


def their_targets(detections: Sequence[dict[str, Tensor]]) -> list[Any]:
    """The peer's spelling of them."""
    return [
        FasterRCNNBoxScoreTarget(one["labels"].tolist(), list(one["boxes"])) for one in detections
    ]


def our_targets(detections: Sequence[dict[str, Tensor]], variant: Any = "label") -> list[Boxes]:
    """The same boxes and labels."""
    return [
        Boxes(
            tuple(one["labels"].tolist()),
            tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in one["boxes"]),
            variant=variant,
        )
        for one in detections
    ]


def their_picture(
    cls: Any, net: nn.Module, layer: str, x: Tensor, targets: Any, **options: Any
) -> Any:
    """What the peer shows."""
    cam = cls(net, [net.get_submodule(layer)], **options)
    try:
        return cam(x, targets)
    finally:
        cam.activations_and_grads.release()


def as_shown(raw: Tensor) -> Tensor:
    """The peer's picture of a raw map, with its absolute 1e-7, which is not small here."""

    def unit(maps: Tensor) -> Tensor:
        low = maps.amin((1, 2), keepdim=True)
        return (maps - low) / (1e-7 + (maps - low).amax((1, 2), keepdim=True))

    return unit(interpolate(unit(raw.relu())[:, None], SIZE, mode="bilinear")[:, 0])


# --- agreement -------------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("count", [1, 4], ids=["one_box", "four_boxes"])
def test_eigencam_with_the_peers_reshape(name: str, count: int) -> None:
    net, x = built(name).double(), images().double()
    detections = found(net, x, count)
    theirs = their_picture(
        peer.EigenCAM,
        net,
        "backbone",
        x,
        their_targets(detections),
        reshape_transform=fasterrcnn_reshape_transform,
    )
    ours = explain(
        net,
        x,
        "eigencam:variant=grad-cam",
        target=our_targets(detections),
        layers="backbone",
        reshape=fasterrcnn_reshape_transform,
    )
    shown = best_signs([ours.raw["backbone"]], SIZE, torch.from_numpy(theirs).double())
    assert gap(shown, theirs) < CLOSE


@NAMES
@pytest.mark.parametrize("count", [1, 4], ids=["one_box", "four_boxes"])
@pytest.mark.parametrize("spec", ["gradcam", "layercam"])
def test_gradient_methods_at_the_last_stage(spec: str, name: str, count: int) -> None:
    net, x, layer = built(name).double(), images().double(), DETECTORS[name][1]
    detections = found(net, x, count)
    ours = explain(net, x, spec, target=our_targets(detections))
    assert ours.provenance.layers == (layer,)
    cls = {"gradcam": peer.GradCAM, "layercam": peer.LayerCAM}[spec]
    theirs = their_picture(cls, net, layer, x, their_targets(detections))
    assert gap(as_shown(ours.raw[layer]), theirs) < CLOSE
    if count == 1:
        bound = explain(net, x, spec, target="box:0")
        torch.testing.assert_close(bound.maps, ours.maps, rtol=1e-9, atol=1e-12)


def test_ablationcam() -> None:
    """Where all activations are positive, both set a channel to zero."""
    net, x = tiny(), images().double()
    detections = found(net, x, 2)
    ours = explain(
        net,
        x,
        "ablationcam:variant=grad-cam",
        target=our_targets(detections, "grad-cam"),
        layers="backbone.3",
    )
    theirs = their_picture(
        peer.AblationCAM, net, "backbone.3", x, their_targets(detections), batch_size=4
    )
    assert gap(ours.maps, theirs) < CLOSE


def test_the_score_is_the_peers() -> None:
    """On other images than those the boxes come from."""
    net, x = tiny(), images(3).double()
    detections = found(net, x, 3)
    with torch.no_grad():
        other = net(0.9 * x + 0.05)
        for image, target in enumerate(their_targets(detections)):
            bound = our_targets(detections, "grad-cam")[image].bind(other, net)
            ours = bound(other, torch.arange(3))
            theirs = torch.cat([target(one) for one in other])
            torch.testing.assert_close(ours, theirs)
            assert bool((theirs != 0).any())


# --- what the peer gets wrong ----------------------------------------------------------------


def test_a_better_overlap_of_another_label_hides_the_box_from_the_peer() -> None:
    """It takes the best overlap of any label, then wants the label to be the same."""
    box, nearer = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.5]
    found_there = {
        "boxes": torch.tensor([box, nearer]),
        "scores": torch.tensor([0.9, 0.2]),
        "labels": torch.tensor([1, 2]),
    }
    asked = torch.tensor(nearer)
    assert FasterRCNNBoxScoreTarget([1], [asked])(found_there).item() == 0.0
    output = [found_there]
    bound = Box(label=1, at=(0.0, 0.0, 10.0, 10.5)).bind(output, None)  # type: ignore[arg-type]
    assert bound(output, torch.tensor([0])).item() == pytest.approx(100 / 105 + 0.9)


def test_without_a_detection_the_peer_has_no_gradient_and_we_an_answer() -> None:
    net, x = tiny(), images(1).double()
    detections = found(net, x, 1)
    net.roi_heads.score_thresh = 1.0
    with pytest.raises(RuntimeError, match="does not require grad"):
        their_picture(peer.GradCAM, net, "backbone.3", x, their_targets(detections))
    with pytest.raises((TypeError, AttributeError)):
        their_picture(peer.GradCAM, net, "backbone.3", x, None)
    ours = explain(net, x, "gradcam", layers="backbone.3")
    assert [issue.code for issue in ours.issues] == ["no_detections"]
    assert not bool(ours.maps.any())


def test_the_peers_reshape_of_gradients_is_not_linear() -> None:
    """It takes absolute values, of gradients too; ours is linear and keeps their sign."""
    from camkit_tasks.reshapes.fpn import FPN

    levels = {"0": torch.randn(1, 2, 4, 6), "pool": torch.randn(1, 2, 2, 3)}
    minus = {name: -level for name, level in levels.items()}
    assert torch.equal(fasterrcnn_reshape_transform(minus), fasterrcnn_reshape_transform(levels))
    reshape = FPN(grid="pool")
    assert torch.equal(reshape.to_spatial(minus), -reshape.to_spatial(levels))
    positive = {name: level.abs() for name, level in levels.items()}
    torch.testing.assert_close(reshape.to_spatial(positive), fasterrcnn_reshape_transform(levels))
