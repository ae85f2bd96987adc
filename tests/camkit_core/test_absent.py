"""Targets that some images do not have: empty maps for these, that say so, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camkit_core import BoundTarget, Issue, PerImageTarget, Runner, TargetInfo, TensorRows, explain
from camkit_core.method import MethodModel
from camkit_core.need import Need

NAN = float("nan")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features.reset_parameters()
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).tanh().mean((2, 3))


@dataclass(frozen=True)
class Found:
    """The first class, in those images where it is found."""

    missing: tuple[int, ...] = ()

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        return BoundFound(len(output), self.missing)


@dataclass(frozen=True)
class BoundFound:
    images: int
    missing: tuple[int, ...]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        known = torch.tensor([i not in self.missing for i in range(self.images)])
        return output[:, 0].where(known[owner], 0.0)

    @property
    def similarity(self) -> BoundTarget:
        return BoundSecond()

    def describe(self) -> TargetInfo:
        boxes = torch.tensor([[[1.0, 2.0, 3.0, 4.0 + i]] for i in range(self.images)])
        boxes[list(self.missing)] = NAN
        issue = Issue("no_detections", "nothing here", self.missing)
        return TargetInfo(
            kind="box",
            label="the box",
            boxes=boxes,
            absent=self.missing,
            issues=(issue,) if self.missing else (),
        )


@dataclass(frozen=True)
class BoundSecond:
    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        return output[:, 1]

    def describe(self) -> TargetInfo:
        return TargetInfo(kind="similarity", label="the second")


class Slope(MethodModel):
    """Gradient times activation, divided by the score."""

    name = "slope"
    needs = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Any, /) -> Tensor:
        return (capture.gradients * capture.activations).sum(1) / capture.score[:, None, None]


class Asks(MethodModel):
    """Scores of the images themselves, by another view of the target."""

    name = "asks"
    needs = Need.SCORES

    def __call__(self, capture: Any, /) -> Tensor:
        images = capture.inputs
        rows = TensorRows(images, torch.arange(len(images)))
        view = capture.target.similarity
        scores = capture.scores(rows, target=view)
        with torch.enable_grad():
            again = capture.scores(rows, differentiable=True, target=view)
        assert torch.equal(scores, again.detach())
        return scores[:, None, None] * images[:, 0]


def images(n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 6, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("missing", [(1,), (0, 2)])
def test_maps_of_absent_images_are_zero_and_the_others_as_they_were(missing: tuple[int, ...]):
    """Also where the method divides by the score, which is zero."""
    net, x = Net(), images()
    found = explain(net, x, Slope(), target=Found(missing), layers="features")
    whole = explain(net, x, Slope(), target=Found(), layers="features")
    others = [i for i in range(3) if i not in missing]
    assert torch.equal(found.raw["features"][others], whole.raw["features"][others])
    assert not bool(found.raw["features"][list(missing)].any())
    assert torch.isfinite(found.maps).all()
    assert [(i.code, i.images) for i in found.issues] == [("no_detections", missing)]
    assert found.score[list(missing)].tolist() == [0.0] * len(missing)


def test_nothing_runs_if_no_image_has_it():
    net, x = Net(), images(2)
    found = explain(net, x, Slope(), target=Found((0, 1)), layers="features")
    assert found.provenance.backwards == 0
    assert found.maps.shape == (2, 6, 8)
    assert not bool(found.maps.any())
    assert [issue.code for issue in found.issues] == ["no_detections"]


def test_single_images_of_the_answer_know_what_is_theirs():
    found = explain(Net(), images(), Slope(), target=Found((1,)), layers="features")
    one, other = found[1], found[2]
    assert one.target.absent == (0,)
    assert [issue.images for issue in one.target.issues] == [(0,)]
    assert bool(one.target.boxes.isnan().all())
    assert (other.target.absent, other.target.issues, other.issues) == ((), (), ())
    assert other.target.boxes.tolist() == [[[1.0, 2.0, 3.0, 6.0]]]


def test_one_target_per_image():
    target = PerImageTarget((Found(), Found((0,)), Found()))
    found = explain(Net(), images(), Slope(), target=target, layers="features")
    assert found.target.absent == (1,)
    assert [(i.code, i.images) for i in found.issues] == [("no_detections", (1,))]
    assert found.target.boxes.isnan().all(2)[:, 0].tolist() == [False, True, False]


def test_another_view_of_the_target_scores_rows():
    net, x = Net(), images(2)
    for target in (Found(), PerImageTarget((Found(), Found()))):
        found = explain(net, x, Asks(), target=target)
        wanted = net(x)[:, 1, None, None] * x[:, 0]
        torch.testing.assert_close(found.raw["input"], wanted.detach())
