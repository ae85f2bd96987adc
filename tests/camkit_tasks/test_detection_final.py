"""Boxes behind NMS: found again by label and overlap, zero but connected where they are lost."""

from __future__ import annotations

import math

import pytest
import torch
from tasks_proof.detectors import NOTHING, ONE, TWO, context, final, iou

from camkit_core import OptionError, PerImageTarget, TargetError
from camkit_core.testing import check_target
from camkit_tasks.targets.detection import from_words
from camkit_tasks.targets.detection_targets import Box, Boxes

MOVED = {
    "boxes": [[0.0, 0.0, 10.0, 12.0], [0.0, 0.0, 10.0, 10.0], [31.0, 30.0, 50.0, 60.0]],
    "scores": [0.5, 0.4, 0.3],
    "labels": [1, 2, 1],
}
"""As `ONE`, but the first box fits the second detection better, which is of another class."""


def no_run(inputs):
    raise AssertionError("these targets need no further run")


def bound(target, *images):
    return target.bind(final(*images), no_run)


def leaves(output):
    """The same output with gradients."""
    found = [
        {k: v.requires_grad_() if v.is_floating_point() else v for k, v in one.items()}
        for one in output
    ]
    return found, [one[name] for one in found for name in ("boxes", "scores")]


def test_overlap_plus_score_of_the_best_of_the_same_label():
    target = bound(Box(), ONE, TWO)
    rows, owner = final(MOVED, TWO, MOVED, ONE), torch.tensor([0, 1, 1, 0])
    wanted = [
        iou(ONE["boxes"][0], MOVED["boxes"][0]) + 0.5,
        1 + 0.6,
        0.0,  # the dog of the second image is nowhere in MOVED
        1 + 0.9,
    ]
    torch.testing.assert_close(target(rows, owner), torch.tensor(wanted, dtype=torch.float64))


def test_the_incumbents_rule_is_a_variant():
    """It looks for the best overlap of any label, and then wants the label to be the same."""
    rows, owner = final(MOVED), torch.tensor([0])
    ours, theirs = (bound(Box(variant=v), ONE)(rows, owner) for v in ("label", "grad-cam"))
    assert ours.item() == pytest.approx(10 / 12 + 0.5)
    assert theirs.item() == 0.0
    at_rest = bound(Box(variant="grad-cam"), ONE)(final(ONE), owner)
    assert at_rest.item() == pytest.approx(1.9)


@pytest.mark.parametrize(("iou_", "found"), [(0.80, True), (10 / 12, False), (0.9, False)])
def test_a_match_must_exceed_the_threshold(iou_, found):
    score = bound(Box(iou=iou_), ONE)(final(MOVED), torch.tensor([0]))
    assert (score.item() > 0) == found


def test_no_match_is_zero_and_stays_in_the_graph():
    target = bound(Box(), ONE, TWO, NOTHING)
    for image in (NOTHING, TWO):
        output, tensors = leaves(final(image))
        score = target(output, torch.tensor([0]))
        assert score.item() == 0.0
        gradients = torch.autograd.grad(score.sum(), tensors)
        assert not any(bool(one.any()) for one in gradients)
    output, tensors = leaves(final(ONE))
    assert target(output, torch.tensor([2])).item() == 0.0


def test_gradients():
    target, owner = bound(Box(), ONE, TWO), torch.tensor([0, 1, 0])

    def score(*tensors):
        rows = final(MOVED, TWO, ONE)
        for row, boxes, scores in zip(rows, tensors[::2], tensors[1::2], strict=True):
            row["boxes"], row["scores"] = boxes, scores
        return target(rows, owner)

    _, tensors = leaves(final(MOVED, TWO, ONE))
    # A box compared with itself is at the maximum of the overlap, where there is no derivative.
    tensors[2].requires_grad_(False)
    tensors[4].requires_grad_(False)
    assert torch.autograd.gradcheck(score, tensors)


def test_overlap_with_itself_has_no_slope():
    output, tensors = leaves(final(ONE))
    score = bound(Box(), ONE)(output, torch.tensor([0]))
    boxes, scores = torch.autograd.grad(score.sum(), tensors)
    assert float(boxes.abs().max()) < 1e-15
    assert scores.tolist() == [1.0, 0.0, 0.0]


def test_boxes_without_area_find_themselves():
    line = {"boxes": [[3.0, 4.0, 3.0, 9.0], [5.0, 5.0, 5.0, 5.0]], "scores": [0.8, 0.7]}
    line["labels"] = [1, 1]
    for rank, score in enumerate(line["scores"]):
        found = bound(Box(rank=rank), line)(final(line), torch.tensor([0]))
        assert found.item() == pytest.approx(1 + score)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_ranks_go_by_score_whatever_the_order(rank):
    order = torch.tensor([2, 0, 1])
    shuffled = [{k: v[order] for k, v in one.items()} for one in final(ONE)]
    target = Box(rank=rank).bind(shuffled, no_run)
    assert target.describe().boxes[0, 0].tolist() == ONE["boxes"][rank]
    assert target.labels.tolist() == [[ONE["labels"][rank]]]


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("score", 0.3),
        ("x0", 31.0),
        ("y0", 30.0),
        ("x1", 50.0),
        ("y1", 60.0),
        ("cx", 40.5),
        ("cy", 45.0),
        ("width", 19.0),
        ("height", 30.0),
    ],
)
def test_parts_of_the_matched_box(part, wanted):
    found = bound(Box(rank=2, part=part), ONE)(final(MOVED), torch.tensor([0]))
    assert found.item() == pytest.approx(wanted)


@pytest.mark.parametrize("part", ["objectness", "logit", "colour"])
def test_parts_that_final_detections_do_not_have(part):
    with pytest.raises(TargetError, match=f"final detections have no {part}, only a score and"):
        bound(Box(part=part), ONE)


def test_given_boxes():
    at, label = (1.0, 0.0, 11.0, 12.0), 1
    target = bound(Box(label=label, at=at), ONE, NOTHING)
    score = target(final(ONE, NOTHING), torch.tensor([0, 1]))
    assert score.tolist() == pytest.approx([iou(list(at), ONE["boxes"][0]) + 0.9, 0.0])
    # Looked for, whether or not it was found.
    assert target.describe().absent == ()
    assert target.describe().label == "class 1 at 1,0,11,12"
    near = bound(Box(at=(28.0, 33.0, 51.0, 59.0)), ONE)
    assert near.describe().boxes[0, 0].tolist() == ONE["boxes"][2]
    assert bound(Box(at=(70.0, 70.0, 80.0, 80.0)), ONE).describe().absent == (0,)


def test_the_sum_over_several_given_boxes():
    boxes = tuple(tuple(box) for box in ONE["boxes"])
    target = bound(Boxes((1, 2, 1), boxes), ONE, TWO)
    assert target(final(ONE), torch.tensor([0])).item() == pytest.approx(3 + 0.9 + 0.8 + 0.7)
    assert target.describe().boxes.shape == (2, 3, 4)
    assert target.describe().label.count(" and ") == 2
    with pytest.raises(OptionError, match="2 labels for 3 boxes"):
        Boxes((1, 2), boxes)


def test_what_is_missing_is_named_per_image():
    target = bound(Box(rank=1), TWO, ONE, NOTHING)
    info = target.describe()
    assert info.absent == (0, 2)
    (issue,) = info.issues
    assert (issue.code, issue.images) == ("no_detections", (0, 2))
    assert info.labels == (
        "box:1: no detection",
        "class 2 at 1,0,11,10 (0.80)",
        "box:1: no detection",
    )
    assert bool(info.boxes[0].isnan().all())
    scores = target(final(TWO, ONE, NOTHING), torch.arange(3))
    assert scores.tolist() == [0.0, 1.8, 0.0]
    assert bound(Box(), ONE, TWO).describe().issues == ()


def test_nothing_anywhere():
    target = bound(Box(rank=3), NOTHING, NOTHING)
    assert target.describe().absent == (0, 1)
    assert target(final(NOTHING, ONE), torch.tensor([0, 1])).tolist() == [0.0, 0.0]


def test_a_rank_that_no_image_has():
    with pytest.raises(TargetError, match=r"'box:3': there are at most 3 detections in an image"):
        bound(Box(rank=3), ONE, TWO)
    with pytest.raises(TargetError, match=r"at most 2 detections of class 1 in an image"):
        bound(Box(rank=2, label=1), ONE, TWO)


def test_one_target_per_image():
    target = PerImageTarget((Box(rank=2), Box(), Box())).bind(final(ONE, TWO, NOTHING), no_run)
    info = target.describe()
    assert info.boxes.shape == (3, 1, 4)
    assert info.boxes[:2, 0].tolist() == [ONE["boxes"][2], TWO["boxes"][0]]
    assert info.absent == (2,)
    assert [(issue.code, issue.images) for issue in info.issues] == [("no_detections", (2,))]
    rows, owner = final(TWO, ONE, ONE), torch.tensor([1, 0, 2])
    assert target(rows, owner).tolist() == pytest.approx([1.6, 1.7, 0.0])
    assert target.similarity(rows, owner).tolist() == pytest.approx([0.6, 0.7, 0.0])
    # A chunk of rows need not have any of every image.
    rows, owner = final(ONE, ONE), torch.tensor([0, 0])
    assert target(rows, owner).tolist() == pytest.approx([1.7, 1.7])
    assert target.similarity(rows, owner).tolist() == pytest.approx([0.7, 0.7])


def test_similarity_is_the_best_of_overlap_times_score_of_the_same_label():
    target = bound(Box(), ONE, TWO)
    rows, owner = final(MOVED, ONE, TWO, NOTHING), torch.tensor([0, 1, 1, 0])
    wanted = [
        max(iou(ONE["boxes"][0], MOVED["boxes"][0]) * 0.5, iou(ONE["boxes"][0], MOVED["boxes"][2])),
        iou(TWO["boxes"][0], ONE["boxes"][1]) * 0.8,
        0.6,
        0.0,
    ]
    found = target.similarity(rows, owner)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert target.similarity.describe().label.startswith("similarity to class 1 at 0,0,10,10")


@pytest.mark.parametrize("target", [Box(), Box(rank=1, label=1), Box(part="x1")])
def test_conforms(target):
    alike = [ONE, MOVED, {**ONE, "scores": [0.3, 0.6, 0.9]}]
    check_target(target, output=final(*alike))


def test_rows_of_six_columns():
    """Detectors without NMS return x0, y0, x1, y1, score, class."""
    rows = torch.tensor(
        [[[0, 0, 10, 10, 0.9, 1], [30, 30, 50, 60, 0.7, 2]], [[5, 5, 9, 9, 0.8, 2]] * 2]
    )
    target = Box(label=2).bind(rows, no_run)
    assert target.describe().boxes[:, 0].tolist() == [[30, 30, 50, 60], [5, 5, 9, 9]]
    torch.testing.assert_close(target((rows, []), torch.arange(2)), torch.tensor([1.7, 1.8]))


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("pred", Box()),
        ("pred:2", Box(rank=2)),
        ("1", Box(label=1)),
        ("box:0", Box()),
        (" box: 2 ", Box(rank=2)),
        ("box:dog", Box(label=2)),
        ("box:Dog:1", Box(label=2, rank=1)),
        ("box:1:0", Box(label=1)),
        ("box:cat@1,2,3.5,4", Box(label=1, at=(1.0, 2.0, 3.5, 4.0))),
        ("box:2@1,2,3,4", Box(label=2, at=(1.0, 2.0, 3.0, 4.0))),
        ("box:@1,2,3,4", Box(at=(1.0, 2.0, 3.0, 4.0))),
        ("box:0.width", Box(part="width")),
        ("box:cat.score", Box(label=1, part="score")),
        ("box:cat:1.x0", Box(label=1, rank=1, part="x0")),
        ("box:cat@1,2,3,4.cy", Box(label=1, at=(1.0, 2.0, 3.0, 4.0), part="cy")),
    ],
)
def test_words(words, target):
    found = from_words(words, final(ONE, TWO), context())
    assert found == Box(**{**vars(target), "classes": 3, "size": (80, 100)})


@pytest.mark.parametrize("words", ["pred", "pred:1", "7"])
def test_other_outputs_are_left_to_others(words):
    for output in (torch.zeros(2, 5), torch.zeros(2, 7, 9, 9), {"logits": torch.zeros(2, 5)}, []):
        assert from_words(words, output, context()) is None


@pytest.mark.parametrize("words", ["cat", "margin:3", "boxes:0", "text:box:0", "pred:x", "-1"])
def test_other_words_are_left_to_others(words):
    assert from_words(words, final(ONE), context()) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("box:", "is not understood: say box:R, box:LABEL"),
        ("box:cat@1,2,3", "is not understood"),
        ("box:cat@1,2,three,4", "is not understood"),
        ("box:cat@3,2,1,4", "x0 < x1 and y0 < y1"),
        ("box:dgo", "no class is called 'dgo'; did you mean 'dog'"),
        ("prediction:cat", "is not understood"),
    ],
)
def test_nonsense(words, said):
    with pytest.raises(TargetError, match=said):
        from_words(words, final(ONE), context())


def test_no_names_are_known():
    with pytest.raises(TargetError, match="this model's class names are not known"):
        from_words("box:cat", final(ONE), context(()))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(2, 5), r"'box:0': the model returned a tensor \[2, 5\], but a box is read"),
        ({"nothing": None}, "the model returned dict with nothing"),
        ([{"boxes": torch.zeros(1, 4)}], "list of dict with boxes"),
        ([], "returned list"),
    ],
)
def test_other_outputs_are_refused_when_a_box_is_named(output, said):
    with pytest.raises(TargetError, match=said):
        from_words("box:0", output, context()).bind(output, no_run)
    with pytest.raises(TargetError, match=r"target=Boxes"):
        Boxes((1,), ((0.0, 0.0, 1.0, 1.0),)).bind(output, no_run)


def test_an_output_of_another_kind_later_is_refused():
    with pytest.raises(TargetError, match="bound to final detections, but the model returned Tens"):
        bound(Box(), ONE)(torch.zeros(2, 5), torch.arange(2))


def test_scores_are_finite_numbers_whatever_is_found():
    """No image of a batch can spoil the others."""
    target = bound(Box(), ONE, NOTHING, TWO)
    found = target(final(NOTHING, ONE, TWO), torch.arange(3))
    assert all(map(math.isfinite, found.tolist()))
