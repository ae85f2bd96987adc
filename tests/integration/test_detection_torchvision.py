"""torchvision's detectors, explained with no argument but the model and the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camkit import compare, explain
from camkit_core import (
    BoundTarget,
    Capture,
    Need,
    Runner,
    TargetError,
    default_registry,
    method_of,
)
from camkit_tasks.targets.detection_targets import Box

from .detection_helpers import DETECTORS, SIZE, built, images, tiny
from .parity_helpers import assert_live, one_thread

SLOW = {name for name in DETECTORS if "mobilenet" not in name}
EVERY = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in DETECTORS]
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def same(ours: Any, theirs: Any) -> None:
    """The same maps, bit for bit, of every layer."""
    for mine, other in zip(ours.raw.values(), theirs.raw.values(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(ours.maps, theirs.maps)


@EVERY
@pytest.mark.parametrize("method", ["gradcam", "eigencam"])
def test_with_no_argument_but_model_and_image(name: str, method: str) -> None:
    net, x = built(name), images()
    found = explain(net, x, method)
    layer = DETECTORS[name][1]
    assert found.provenance.layers == (layer,)
    assert found.maps.shape == (2, *SIZE)
    assert_live(found.raw[layer])
    by_hand = explain(net, x, method, layers=layer, reshape="channels_first")
    same(found, by_hand)
    if method == "gradcam":
        assert found.target.kind == "box"
        same(found, explain(net, x, method, target="box:0"))


@EVERY
def test_the_box_that_is_explained_is_the_best_of_the_models_own_output(name: str) -> None:
    net, x = built(name), images()
    found = explain(net, x, "gradcam", target="pred:1")
    with torch.no_grad():
        output = net(list(x))
    for image, one in enumerate(output):
        box, label, score = one["boxes"][1], int(one["labels"][1]), float(one["scores"][1])
        assert found.target.boxes is not None
        torch.testing.assert_close(found.target.boxes[image, 0], box)
        assert found.target.labels[image].startswith(f"class {label} at ")
        # The overlap of a box with itself, and its score.
        assert found.score[image].item() == pytest.approx(1 + score, abs=1e-5)


def test_gradients_reach_the_default_layer_from_every_level_of_the_pyramid() -> None:
    """Boxes of different size are read from different levels; one level alone is blind to some."""
    net, x = built("fasterrcnn_resnet50_fpn"), images(1)
    ranks = [f"box:{rank}" for rank in range(6)]
    comparison = compare(net, x, ["hirescam"], ranks)
    assert all(bool(one.raw["backbone.body.layer4"].any()) for one in comparison.values())
    levels = [f"backbone.fpn.layer_blocks.{level}" for level in range(4)]
    reached = compare(net, x, ["hirescam"], ranks, layers=levels)
    blind = [bool(one.raw[level].any()) for one in reached.values() for level in levels]
    assert not all(blind)


@pytest.mark.parametrize(
    "name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"]
)
def test_ablation_equals_a_loop_over_the_model(name: str) -> None:
    net, x = built(name).double(), images().double()
    look = Weights("ablationcam:ratio=0.03")
    found = explain(net, x, look)
    assert not [note for note in found.provenance.notes if "SLOW" in note]
    assert look.seen is not None
    ablated = look.seen.nonzero().tolist()
    assert len(ablated) >= 4
    with torch.no_grad():
        bound = Box().bind(net(x), net)
        for image, channel in ablated[:: len(ablated) // 4]:
            handle = net.get_submodule(DETECTORS[name][1]).register_forward_hook(without(channel))
            lost = found.score - bound(net(x), torch.arange(2))
            handle.remove()
            assert look.seen[image, channel].item() == pytest.approx(lost[image].item(), abs=1e-9)


class Weights:
    """Hands on the map of a method and keeps its channel weights `[N, K]`."""

    name, needs = "weights", Need.ACTIVATIONS | Need.TAIL

    def __init__(self, spec: str) -> None:
        self._method: Any = method_of(spec, default_registry())
        self.seen: Tensor | None = None

    def __call__(self, capture: Capture) -> Tensor:
        self.seen = self._method.weights(capture)
        assert_live(self._method(capture))
        return capture.activations[:, 0]


def without(channel: int) -> Callable[..., Tensor]:
    """A hook that sets a channel to zero."""

    def zero(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, channel] = 0
        return output

    return zero


# --- nothing found ---------------------------------------------------------------------------

METHODS = pytest.mark.parametrize(
    "method", ["gradcam", "eigencam", "ablationcam:variant=paper", "occlusion"]
)


@pytest.mark.parametrize(
    "method", ["gradcam", "eigencam", "ablationcam:variant=paper", "occlusion"]
)
def test_no_detections_give_an_empty_map_that_says_so(method: str) -> None:
    net, x = tiny(), images().double()
    net.roi_heads.score_thresh = 1.0
    found = explain(net, x, method, target="pred")
    assert all(not bool(raw.any()) for raw in found.raw.values())
    assert found.maps.shape == (2, *SIZE)
    assert not bool(found.maps.any())
    assert found.score.tolist() == [0.0, 0.0]
    (issue,) = found.issues
    assert (issue.code, issue.images) == ("no_detections", (0, 1))
    assert "score threshold" in issue.message


@pytest.mark.parametrize(
    "method", ["gradcam", "eigencam", "ablationcam:variant=paper", "occlusion"]
)
def test_one_image_without_detections_does_not_disturb_the_others(method: str) -> None:
    net, x = tiny(), images(3).double()
    with torch.no_grad():
        best = sorted(float(one["scores"].amax()) for one in net(x))
        net.roi_heads.score_thresh = (best[0] + best[1]) / 2
        missing = next(i for i, one in enumerate(net(x)) if not len(one["scores"]))
    others = [i for i in range(3) if i != missing]
    found = explain(net, x, method, target="pred")
    assert {(i.code, i.images) for i in found.issues if i.images} == {("no_detections", (missing,))}
    assert not bool(found.maps[missing].any())
    assert_live(found.maps[others])
    alone = explain(net, x[others], method, target="pred")
    torch.testing.assert_close(found.maps[others], alone.maps, rtol=1e-7, atol=1e-9)
    said = ["no_detections" in {issue.code for issue in one.issues} for one in found]
    assert said == [i == missing for i in range(3)]
    assert found[missing].target.absent == (0,)
    assert found.target.boxes is not None
    assert bool(found.target.boxes[missing].isnan().all())


def test_a_rank_that_only_some_images_have() -> None:
    net, x = tiny(), images(3).double()
    with torch.no_grad():
        scores = torch.stack([one["scores"][:4] for one in net(x)])
        net.roi_heads.score_thresh = float(scores[:, 2].median())
        counts = [len(one["scores"]) for one in net(x)]
    rank = max(counts) - 1
    assert min(counts) < max(counts)
    found = explain(net, x, "gradcam", target=f"box:{rank}")
    assert found.target.absent == tuple(i for i, count in enumerate(counts) if count <= rank)
    with pytest.raises(TargetError, match=rf"at most {max(counts)} detections in an image"):
        explain(net, x, "gradcam", target=f"box:{max(counts)}")


# --- targets of all kinds --------------------------------------------------------------------


def test_the_target_stays_bound_while_the_image_changes() -> None:
    """A row without the box scores zero, not the next best box."""
    net, x = tiny(), images().double()
    with torch.no_grad():
        bound = Box().bind(net(x), net)
        gone = bound(net(x.flip(-1) * 0.2), torch.arange(2))
        found = bound(net(x), torch.arange(2))
    assert bool((found > 1).all())
    assert bool((gone < found).all())


def test_several_targets_of_one_forward() -> None:
    net, x = tiny(), images().double()
    comparison = compare(net, x, ["gradcam", "hirescam"], ["top2", "box:0.score", "box:0.width"])
    assert len(comparison) == 8
    first = comparison["gradcam", 0]
    assert first.provenance.forwards <= 2
    # Overlap with itself has no slope, so it changes the score and not the map.
    torch.testing.assert_close(comparison["gradcam", 2].maps, first.maps, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(first.score - comparison["gradcam", 2].score, torch.ones(2).double())
    assert (comparison["gradcam", 1].maps - first.maps).abs().max() > 1e-3
    assert (comparison["gradcam", 3].maps - first.maps).abs().max() > 1e-3


def test_drise_is_rise_of_the_similarity() -> None:
    net, x = tiny(), images(2).double()
    found = explain(net, x, "drise:masks=40,grid=4", target="box:0", seed=3)
    assert_live(found.maps)
    with torch.no_grad():
        bound: Any = Box().bind(net(x), net)
    rise = explain(net, x, "rise:masks=40,grid=4", target=Given(bound.similarity), seed=3)
    torch.testing.assert_close(found.raw["input"], rise.raw["input"], rtol=1e-9, atol=1e-12)
    plain = explain(net, x, "rise:masks=40,grid=4", target="box:0", seed=3)
    assert (plain.maps - found.maps).abs().max() > 1e-3


@dataclass(frozen=True)
class Given:
    """A target that is bound already."""

    bound: BoundTarget

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Nothing is left to settle."""
        return self.bound
