"""Targets of dense predictions against explicit loops over positions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tasks_proof.slope import Slope
from torch import nn

from camkit_core import TargetError, explain
from camkit_core.testing import check_target
from camkit_tasks import ClassMask, Pixel, Region

SIZES = {"lines": (7,), "images": (4, 5), "volumes": (3, 4, 2)}
OWNER = torch.tensor([2, 0, 0, 1])


def maps(rows: int, size: tuple[int, ...], classes: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, classes, *size, generator=generator, dtype=torch.float64)


def no_run(inputs):
    raise AssertionError("these targets need no further run")


def score_at(row: torch.Tensor, c: int, place: tuple[int, ...], of: str) -> float:
    values = [float(row[(k, *place)]) for k in range(len(row))]
    if of == "logit":
        return values[c]
    return math.exp(values[c]) / sum(map(math.exp, values))


def winner_at(row: torch.Tensor, place: tuple[int, ...]) -> int:
    return max(range(len(row)), key=lambda k: float(row[(k, *place)]))


def by_hand(row, c, weights, of, reduce) -> float:
    total, area = 0.0, 0.0
    for place in itertools.product(*map(range, weights.shape)):
        total += float(weights[place]) * score_at(row, c, place, of)
        area += float(weights[place])
    return total / area if reduce == "mean" else total


def predicted_mask(row: torch.Tensor, c: int) -> torch.Tensor:
    mask = torch.zeros(row.shape[1:])
    for place in itertools.product(*map(range, mask.shape)):
        mask[place] = winner_at(row, place) == c
    return mask


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_class_is_scored_where_the_clean_output_predicts_it(size, of, reduce):
    clean, changed = maps(3, size), maps(4, size, seed=7)
    classes = tuple(winner_at(row, (0,) * len(size)) for row in clean)
    target = ClassMask(classes, of=of, reduce=reduce)
    scores = target.bind(clean, no_run)(changed, OWNER)
    for m, image in enumerate(OWNER.tolist()):
        mask = predicted_mask(clean[image], classes[image])
        wanted = by_hand(changed[m], classes[image], mask, of, reduce)
        assert scores[m].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_without_a_class_it_is_the_one_predicted_at_most_positions(rank):
    clean = maps(3, (6, 7))
    found = ClassMask(rank=rank).bind(clean, no_run).describe().classes.tolist()
    for row, index in zip(clean, found, strict=True):
        areas = [float(predicted_mask(row, c).sum()) for c in range(4)]
        assert index == sorted(range(4), key=lambda c: -areas[c])[rank]


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("each", [False, True], ids=["one_mask", "one_each"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_region_weighs_positions(size, each, reduce):
    clean, changed = maps(3, size), maps(4, size, seed=7)
    weights = torch.rand((3, *size) if each else size, generator=torch.Generator().manual_seed(1))
    scores = Region(2, mask=weights, reduce=reduce).bind(clean, no_run)(changed, OWNER)
    for m, image in enumerate(OWNER.tolist()):
        mine = weights[image] if each else weights
        wanted = by_hand(changed[m], 2, mine.double(), "logit", reduce)
        assert scores[m].item() == pytest.approx(wanted, abs=1e-12)


def test_a_region_of_another_resolution_takes_the_nearest_of_its_pixels():
    mask = torch.zeros(8, 20, dtype=torch.bool)
    mask[2:4, 3:12] = True  # four columns and two rows for one of the output's
    bound = Region(0, mask=mask).bind(maps(2, (4, 5)), no_run)
    wanted = torch.zeros(4, 5)
    wanted[1, 1:3] = 1  # the centre of column 0 is 2, which is not in the mask
    assert torch.equal(bound.weights[0].float(), wanted)


def test_without_a_class_a_region_is_of_the_one_predicted_at_most_of_its_positions():
    clean = torch.zeros(2, 3, 2, 3)
    clean[0, 2], clean[1, 1] = 1.0, 1.0
    clean[0, 1, 0, :2] = 5.0
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    assert Region(mask=mask).bind(clean, no_run).describe().classes.tolist() == [1, 1]
    assert Region(mask=1 - mask).bind(clean, no_run).describe().classes.tolist() == [2, 1]


PLACES = {  # at, size of the image, size of the output, position
    "same size": ((3, 1), (4, 5), (4, 5), (1, 3)),
    "no size": ((3, 1), None, (4, 5), (1, 3)),
    "first": ((0, 0), (64, 80), (4, 5), (0, 0)),
    "last": ((79, 63), (64, 80), (4, 5), (3, 4)),
    "edge": ((15, 16), (64, 80), (4, 5), (1, 0)),
    "past the edge": ((16, 15), (64, 80), (4, 5), (0, 1)),
    "enlarged": ((1, 0), (2, 2), (4, 6), (1, 4)),
    "volume": ((5, 0, 7), (9, 4, 6), (3, 2, 2), (2, 0, 1)),
    "line": ((9,), (10,), (5,), (4,)),
}


@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize("place", PLACES)
def test_a_pixel_of_the_image_is_a_position_of_the_output(place, of):
    at, image, size, position = PLACES[place]
    clean, changed = maps(3, size), maps(4, size, seed=7)
    bound = Pixel(at=at, size=image, of=of).bind(clean, no_run)
    scores = bound(changed, OWNER)
    for m, row in enumerate(OWNER.tolist()):
        c = winner_at(clean[row], position)
        wanted = score_at(changed[m], c, position, of)
        assert scores[m].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("target", [ClassMask(), Region(mask=torch.ones(4, 5)), Pixel(at=(1, 2))])
def test_one_channel_says_yes_or_no(target):
    clean = maps(3, (4, 5), classes=1)
    bound = target.bind(clean, no_run)
    assert bound.describe().classes.tolist() == [0, 0, 0]
    scores = bound(clean, torch.arange(3))
    if isinstance(target, ClassMask):
        torch.testing.assert_close(scores, clean.clamp_min(0).flatten(1).sum(1))
    sure = type(target).bind(target, clean, no_run)
    assert torch.equal(sure(clean, torch.arange(3)), scores)


def test_the_probability_of_one_channel_is_its_sigmoid():
    clean = maps(2, (4, 5), classes=1)
    scores = Pixel(at=(1, 2), of="probability").bind(clean, no_run)(clean, torch.arange(2))
    torch.testing.assert_close(scores, clean[:, 0, 2, 1].sigmoid())


@pytest.mark.parametrize("name", ["out", "logits"])
def test_scores_are_found_in_containers(name):
    clean = maps(2, (4, 5))
    for target in (ClassMask(), Region(1), Pixel(at=(1, 2))):
        alone = target.bind(clean, no_run)(clean, torch.arange(2))
        boxed = {name: clean, "aux": maps(2, (4, 5), seed=4)}
        assert torch.equal(target.bind(boxed, no_run)(boxed, torch.arange(2)), alone)


def test_no_mask_is_everywhere():
    clean = maps(2, (4, 5))
    bound = Region(3).bind(clean, no_run)
    torch.testing.assert_close(bound(clean, torch.arange(2)), clean[:, 3].sum((1, 2)))
    assert bound.describe().label == "class 3 everywhere"


LABELS = {
    "mask": (ClassMask(1), ("class 1 where predicted",) * 2),
    "region": (Region((3, 0), mask=torch.ones(2, 2)), ("class 3 in the given region",)),
    "pixel": (Pixel(2, at=(1, 2.5)), ("class 2 at pixel (1, 2.5)",)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_say_what_and_where(kind):
    target, said = LABELS[kind]
    info = target.bind(maps(2, (8, 9)), no_run).describe()
    assert info.kind == kind
    assert info.labels[0] == said[0]
    assert info.differentiable


def test_an_absent_class_is_refused_with_those_that_are_there():
    clean = torch.zeros(2, 4, 2, 2)
    clean[:, 0] = 1
    clean[1, 3, 0] = 2
    names = ("background", "cat", "dog", "sheep")
    with pytest.raises(TargetError, match=r"class 3 is predicted nowhere in image 0.* are 0;"):
        ClassMask(3).bind(clean, no_run)
    said = r"class 2 \(dog\) .*nowhere in image 1.* 0 \(background\), 3 \(sheep\);.*region:FILE"
    with pytest.raises(TargetError, match=said):
        ClassMask((0, 2), class_names=names).bind(clean, no_run)
    with pytest.raises(TargetError, match=r"image 0: .*rank 2 .* there are 1: 0 \(background\)"):
        ClassMask(rank=1, class_names=names).bind(clean, no_run)
    with pytest.raises(TargetError, match=r"image 0: .*there are 0: none"):
        ClassMask().bind(-torch.ones(1, 1, 2, 2), no_run)


WRONG = {
    "class": (ClassMask(4), r"class 4 is out of range.*0\.\.3"),
    "region class": (Region(9), r"class 9 is out of range.*0\.\.3"),
    "pixel class": (Pixel((0, 1, 2)), "3 targets for 2 images"),
    "axes": (Region(0, mask=torch.ones(3)), r"\[3\], but a mask .*has 2 axes, or 3"),
    "masks": (Region(0, mask=torch.ones(3, 4, 5)), "3 masks for 2 images"),
    "empty": (Region(0, mask=torch.zeros(4, 5)), "is empty at the resolution"),
    "too small": (Region(0, mask=torch.eye(400, 5)[:, :1].roll(57, 0)), "is empty"),
    "outside": (Pixel(at=(5, 0)), r"pixel \(5, 0\) is not in the image of 5 x 4"),
    "before": (Pixel(at=(0, -1)), "is not in the image"),
    "of the image": (Pixel(at=(0, 64), size=(64, 80)), "is not in the image of 80 x 64"),
    "coordinates": (Pixel(at=(1, 1, 1)), r"pixel \(1, 1, 1\): .* has 2 coordinates"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_the_output_is_refused(case):
    target, said = WRONG[case]
    with pytest.raises(TargetError, match=said):
        target.bind(maps(2, (4, 5)), no_run)


@pytest.mark.parametrize("words", [{"of": "odds"}, {"reduce": "max"}], ids=str)
@pytest.mark.parametrize("kind", [ClassMask, Region])
def test_unknown_words_are_refused_at_once(kind, words):
    with pytest.raises(TargetError, match="choose"):
        kind(**words)


@pytest.mark.parametrize("target", [ClassMask(), Region(0), Pixel()], ids=repr)
@pytest.mark.parametrize("shape", [(2, 4), (2,)], ids=str)
def test_scores_of_whole_images_are_refused(target, shape):
    with pytest.raises(TargetError, match=r"at every position, \[N, K, \*S\]"):
        target.bind(torch.rand(shape), no_run)


CHECKED = {
    "mask": ClassMask(of="probability", reduce="mean"),
    "region": Region(1, mask=torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(2))),
    "pixel": Pixel(2, at=(3, 1), size=(9, 11)),
}


@pytest.mark.parametrize("target", CHECKED)
def test_conformance_where_the_scores_are_in_a_container(target):
    output = {"out": maps(3, (4, 5)), "aux": maps(3, (4, 5), seed=8)}
    assert check_target(CHECKED[target], output=output).count("passed") >= 8


@pytest.mark.parametrize("volume", [False, True], ids=["image", "volume"])
def test_a_segmentation_network_is_explained(volume):
    conv = nn.Conv3d if volume else nn.Conv2d
    torch.manual_seed(0)
    net = nn.Sequential(conv(2, 6, 3, 2), nn.Tanh(), conv(6, 4, 1)).double()
    x = torch.randn(2, 2, *((9, 11, 13) if volume else (11, 13)), dtype=torch.float64)
    found = explain(net, x, Slope(), ClassMask(), "1")
    inner = net[1](net[0](x)).detach().requires_grad_()
    output = net[2](inner)
    winners = output.argmax(1)
    score = torch.zeros((), dtype=torch.float64)
    for image, own in enumerate(winners):
        most = int(own.flatten().mode().values)
        score = score + output[image, most][own == most].sum()
    (gradient,) = torch.autograd.grad(score, inner)
    torch.testing.assert_close(found.raw["1"], (gradient * inner).sum(1).detach())
    assert found.maps.shape == (2, *x.shape[2:])
