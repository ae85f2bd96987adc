"""Predictions from before NMS: read in every form, chosen once, then a plain number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tasks_proof.detectors import anchors, confidence, context, corners, iou, output_of
from torch import nn

from camkit_core import TargetError
from camkit_core.testing import check_target
from camkit_tasks.targets.boxes import distinct, overlap
from camkit_tasks.targets.detection import from_words
from camkit_tasks.targets.detection_read import form_of
from camkit_tasks.targets.detection_targets import Box, Prediction

SIZE = (80, 100)
FORMS = (
    *("channels", "channels+objectness", "anchors", "anchors+objectness"),
    *("queries", "queries+sigmoid"),
)
EVERY = pytest.mark.parametrize("form", FORMS)


def no_run(inputs):
    raise AssertionError("these targets need no further run")


def bound(target, form, parts):
    return target.bind(output_of(form, parts), no_run)


def clean(form, seed=0):
    parts = anchors(seed=seed)
    return parts, confidence(form, parts)


# --- forms -----------------------------------------------------------------------------------


@EVERY
def test_the_form_is_found_if_the_number_of_classes_is_known(form):
    assert form_of(output_of(form, anchors()), 3) == form


@pytest.mark.parametrize("form", ["channels", "anchors+objectness", "queries"])
def test_without_it_the_longer_axis_is_that_of_the_anchors(form):
    assert form_of(output_of(form, anchors()), None) == form


def test_feature_maps_besides_and_further_columns():
    parts = anchors()
    tensor = output_of("channels", parts)
    assert form_of((tensor, [torch.zeros(2, 5, 4, 4)]), None) == "channels"
    masks = torch.cat([tensor, torch.full((2, 3, 12), -4.0)], 1)
    assert form_of(masks, 3) == "channels"
    target = Prediction(5, 1, classes=3).bind(masks, no_run)
    assert target(masks, torch.arange(2)).tolist() == parts["classes"][:, 5, 1].tolist()
    # Without the number of classes the rest reads as scores, which it cannot be.
    assert form_of(masks, None) is None


def test_two_readings_are_an_error_that_says_how_to_choose():
    square = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TargetError, match=r"forms 'channels' and 'anchors\+objectness'; say which"):
        form_of(square, None)
    assert Box(form="channels").bind(square, no_run).describe().kind == "box"


@pytest.mark.parametrize(
    "output",
    [
        torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0)),
        torch.rand(2, 3, 12),
        torch.rand(2, 12),
        torch.rand(2, 7, 6, 6),
        torch.zeros(2, 12, 5, dtype=torch.long),
        {"logits": torch.rand(2, 4)},
        {"logits": torch.rand(2, 4, 3), "pred_boxes": torch.rand(2, 4)},
        [],
        None,
    ],
)
def test_other_outputs_are_none(output):
    assert form_of(output, None) is None
    assert from_words("pred", output, context()) is None


def test_an_output_of_another_form_later_is_refused():
    for form in ("channels", "queries"):
        with pytest.raises(TargetError, match="was bound to predictions in the form"):
            bound(Box(), form, anchors())(torch.zeros(2, 2), torch.arange(2))


# --- choice ----------------------------------------------------------------------------------


def by_hand(form, boxes, scores, rank):
    """Greedy suppression within classes, in plain Python: prediction and class of that rank."""
    best = [(max(row), row.index(max(row)), i) for i, row in enumerate(scores.tolist())]
    kept = []
    for score, label, index in sorted(best, key=lambda one: -one[0]):
        repeats = not form.startswith("queries") and any(
            other == label and iou(corners(boxes[i].tolist()), corners(boxes[index].tolist())) > 0.5
            for _, other, i in kept
        )
        if not repeats:
            kept.append((score, label, index))
    return kept[rank][2], kept[rank][1]


def crowded(seed):
    """Predictions of which every third nearly repeats the one before."""
    parts = anchors(seed=seed)
    parts["boxes"][:, 1::3] = parts["boxes"][:, 0::3] + 0.5
    parts["classes"][:, 1::3] = parts["classes"][:, 0::3] * 0.97
    return parts


@EVERY
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_the_best_that_do_not_repeat_each_other(form, rank):
    parts = crowded(seed=2)
    scores = confidence(form, parts)
    target = bound(Box(rank=rank, classes=3, size=SIZE), form, parts)
    for image in range(2):
        index, label = by_hand(form, parts["boxes"][image], scores[image], rank)
        assert int(target.index[image]) == index
        assert int(target.classes[image]) == label
        wanted = torch.tensor(corners(parts["boxes"][image, index].tolist()), dtype=torch.float64)
        torch.testing.assert_close(target.describe().boxes[image, 0], wanted)
    rest = bound(Box(rank=rank, classes=3), form, crowded(seed=2)).describe().labels
    assert rest == target.describe().labels


@EVERY
def test_the_best_of_a_class_and_the_nearest_to_a_place(form):
    parts, scores = clean(form, seed=4)
    target = bound(Box(label=2, classes=3, size=SIZE), form, parts)
    assert torch.equal(target.index, scores[..., 2].argmax(1))
    place = corners((parts["boxes"][0, 7] + 0.4).tolist())
    near = bound(Box(at=tuple(place), label=1, classes=3, size=SIZE), form, parts)
    assert int(near.index[0]) == 7
    assert near.classes.tolist() == [1, 1]
    far = bound(Box(at=(900.0, 900.0, 910.0, 910.0), classes=3, size=SIZE), form, parts)
    assert far.describe().absent == (0, 1)
    assert far(output_of(form, parts), torch.arange(2)).tolist() == [0.0, 0.0]


@EVERY
def test_score_of_a_numbered_prediction_of_any_output(form):
    parts, scores = clean(form)
    other = anchors(seed=9)
    target = bound(Prediction(5, classes=3), form, parts)
    labels = scores[:, 5].argmax(1)
    assert torch.equal(target.classes, labels)
    owner = torch.tensor([1, 0])
    found = target(output_of(form, other), owner)
    wanted = confidence(form, other)[[0, 1], 5, labels[owner]]
    torch.testing.assert_close(found, wanted)


@EVERY
@pytest.mark.parametrize("part", ["logit", "x0", "height", "cy"])
def test_parts(form, part):
    parts, _ = clean(form)
    x, y, width, height = parts["boxes"][:, 3].T
    given = {"x0": x - width / 2, "height": height, "cy": y, "logit": parts["classes"][:, 3, 2]}
    wanted = given["logit"].logit() if part == "logit" else given[part]
    target = bound(Prediction(3, 2, part, classes=3, size=SIZE), form, parts)
    torch.testing.assert_close(target(output_of(form, parts), torch.arange(2)), wanted)
    assert target.describe().label.startswith(f"{part} of class 2 in prediction 3")


@EVERY
def test_objectness_where_there_is_one(form):
    parts, _ = clean(form)
    request = Prediction(3, None, "objectness", classes=3)
    if form not in ("queries", "channels+objectness", "anchors+objectness"):
        with pytest.raises(TargetError, match="this detector has no objectness"):
            bound(request, form, parts)
        return
    found = bound(request, form, parts)(output_of(form, parts), torch.arange(2))
    logits = torch.cat([parts["classes"].logit(), parts["objectness"].logit()[..., None]], 2)
    of_queries = 1 - logits.softmax(2)[:, 3, -1]
    wanted = of_queries if form == "queries" else parts["objectness"][:, 3]
    torch.testing.assert_close(found, wanted)


@EVERY
def test_gradients(form):
    parts, owner = anchors(seed=1), torch.tensor([1, 0])
    for target in (Box(classes=3, size=SIZE), Box(part="x1", classes=3, size=SIZE)):
        settled = bound(target, form, parts)
        leaves = [one.clone().requires_grad_() for one in anchors(seed=6).values()]

        def score(*tensors, settled=settled):
            rows = dict(zip(("boxes", "classes", "objectness"), tensors, strict=True))
            return settled(output_of(form, rows), owner)

        assert torch.autograd.gradcheck(score, leaves)


@EVERY
def test_similarity_by_the_papers_equation(form):
    parts, scores = clean(form)
    other = anchors(seed=3)
    target = bound(Box(classes=3, size=SIZE), form, parts)
    found = target.similarity(output_of(form, other), torch.tensor([1, 0]))
    for row, image in enumerate((1, 0)):
        index = int(target.index[image])
        box = corners(parts["boxes"][image, index].tolist())
        wanted = 0.0
        for j, mine in enumerate(confidence(form, other)[row].tolist()):
            ours = scores[image, index].tolist()
            cosine = sum(p * q for p, q in zip(ours, mine, strict=True)) / (
                math.hypot(*ours) * math.hypot(*mine)
            )
            sure = max(mine)
            if form == "queries":
                powers = [p / (1 - p) for p in other["classes"][row, j].tolist()]
                nothing = float(other["objectness"][row, j])
                sure = sum(powers) / (sum(powers) + nothing / (1 - nothing))
            elif form.endswith("objectness"):
                sure = float(other["objectness"][row, j])
            there = corners(other["boxes"][row, j].tolist())
            wanted = max(wanted, iou(box, there) * cosine * sure)
        assert found[row].item() == pytest.approx(wanted)
    itself = target.similarity(output_of(form, parts), torch.arange(2))
    assert bool((itself > 0.3).all())


@EVERY
@pytest.mark.parametrize(
    "target", [Box(classes=3, size=SIZE), Prediction(2, 1, "logit", classes=3)]
)
def test_conforms(form, target):
    # Given, because the checks look at outputs that are no longer probabilities.
    check_target(replace(target, form=form), output=output_of(form, anchors(n=3)))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Prediction(12), r"'prediction:12': there are predictions 0\.\.11"),
        (Prediction(0, 3), r"class 3 is out of range, there are 0\.\.2"),
        (Box(label=5), r"class 5 is out of range"),
        (Box(rank=12), r"'box:12': there are \d+ different predictions"),
    ],
)
def test_out_of_range(target, said):
    with pytest.raises(TargetError, match=said):
        bound(target, "channels", anchors())


def test_predictions_need_predictions():
    from tasks_proof.detectors import ONE, final

    with pytest.raises(TargetError, match=r"no predictions from before NMS; .*say box:0"):
        Prediction(0).bind(final(ONE), no_run)


# --- words and names -------------------------------------------------------------------------


def test_words():
    output = output_of("channels", anchors())
    known = {"classes": 3, "size": SIZE}
    assert from_words("pred", output, context()) == Box(**known)
    assert from_words("2", output, context()) == Box(label=2, **known)
    assert from_words("prediction:7", output, context()) == Prediction(7, **known)
    assert from_words("prediction:7:dog.logit", output, context()) == Prediction(
        7, 2, "logit", **known
    )
    assert from_words("prediction:7.x0", output, context()) == Prediction(7, part="x0", **known)


def test_names_that_the_model_carries():
    model = nn.Identity()
    model.names = {0: "nothing", 1: "cat", 2: "dog"}
    output = output_of("channels", anchors())
    assert from_words("box:dog", output, context((), model=model)).label == 2
    assert from_words("box:dog", output, context((), model=model)).classes == 3
    model.names = {0: "nothing", 5: "dog"}
    with pytest.raises(TargetError, match="class names are not known"):
        from_words("box:dog", output, context((), model=model))


# --- boxes -----------------------------------------------------------------------------------


def test_overlap_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    start = 10 * torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([start, start + 1 + 8 * torch.rand(2, 5, 2, generator=generator)], 2)
    found = overlap(boxes[:, :2], boxes)
    assert found.shape == (2, 2, 5)
    for image in range(2):
        for one in range(2):
            for other in range(5):
                wanted = iou(boxes[image, one].tolist(), boxes[image, other].tolist())
                assert found[image, one, other].item() == pytest.approx(wanted)
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), torch.ones(2, 2).double())


def test_distinct_without_any_box():
    none = torch.zeros(0)
    assert len(distinct(torch.zeros(0, 4), none, none, 3, 0.5)) == 0
