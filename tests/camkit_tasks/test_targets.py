"""Targets against their formulas, in plain Python, and against central differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from camkit_core import BoundTarget, Target, TargetError
from camkit_tasks import Counterfactual, LogProbability, Margin, Probability, Rest

KINDS = {
    "probability": Probability,
    "log_probability": LogProbability,
    "margin": Margin,
    "rest": Rest,
    "counterfactual": Counterfactual,
}
COMPARING = [name for name in KINDS if name != "counterfactual"]
OF_QUESTIONS = ["probability", "log_probability", "rest"]


def logits(rows: int, classes: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def by_hand(name: str, row: list[float], c: int, rival: int) -> float:
    total = sum(math.exp(y) for y in row)
    return {
        "probability": math.exp(row[c]) / total,
        "log_probability": row[c] - math.log(total),
        "margin": row[c] - row[rival],
        "rest": row[c] + row[c] - math.log(total),
        "counterfactual": -row[c],
    }[name]


def strongest(row: list[float], without: int = -1) -> int:
    return max((k for k in range(len(row)) if k != without), key=lambda k: row[k])


def no_run(inputs):
    raise AssertionError("these targets need no further run")


@pytest.mark.parametrize("requested", [None, 3, (0, 4, 1)])
@pytest.mark.parametrize("name", KINDS)
def test_formula_with_choices_frozen_on_the_clean_output(name, requested):
    clean, owner = logits(3), torch.tensor([2, 0, 0, 1, 2, 1, 0])
    changed = logits(len(owner), seed=9)
    bound = KINDS[name](requested).bind(clean, no_run)
    scores = bound(changed, owner)
    assert scores.shape == (7,)
    moved = 0
    for m, image in enumerate(owner.tolist()):
        row = clean[image].tolist()
        c = strongest(row) if requested is None else [3] * 3 if requested == 3 else list(requested)
        c = c if isinstance(c, int) else c[image]
        rival = strongest(row, without=c)
        moved += rival != strongest(changed[m].tolist(), without=c)
        assert scores[m].item() == pytest.approx(
            by_hand(name, changed[m].tolist(), c, rival), abs=1e-12
        )
    assert moved > 0  # otherwise a rival chosen anew would have passed


@pytest.mark.parametrize("name", OF_QUESTIONS)
def test_formula_where_every_class_is_a_question(name):
    clean, owner, changed = logits(2), torch.tensor([1, 0, 1]), logits(3, seed=9)
    scores = KINDS[name]((2, 4), multi_label=True).bind(clean, no_run)(changed, owner)
    for m, c in enumerate((4, 2, 4)):
        y = changed[m, c].item()
        p = 1 / (1 + math.exp(-y))
        wanted = {"probability": p, "log_probability": math.log(p), "rest": y + math.log(p)}
        assert scores[m].item() == pytest.approx(wanted[name], abs=1e-12)


@pytest.mark.parametrize("name", OF_QUESTIONS)
def test_one_question_is_enough(name):
    bound = KINDS[name](0, multi_label=True).bind(logits(2, classes=1), no_run)
    assert bound(logits(2, classes=1), torch.arange(2)).shape == (2,)


@pytest.mark.parametrize("name", KINDS)
def test_gradient(name):
    bound = KINDS[name]((1, 2)).bind(logits(2), no_run)
    owner = torch.tensor([0, 1, 1])
    rows = logits(3, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: bound(y, owner), (rows,))
    assert torch.autograd.gradgradcheck(lambda y: bound(y, owner), (rows,))


def test_rest_is_logit_plus_log_probability_and_margin_beats_saturation():
    clean = torch.tensor([[40.0, 0.0, -3.0]]).requires_grad_()
    owner = torch.tensor([0])
    gradient = {
        name: torch.autograd.grad(kind(0).bind(clean, no_run)(clean, owner).sum(), clean)[0]
        for name, kind in KINDS.items()
    }
    assert torch.equal(gradient["counterfactual"], torch.tensor([[-1.0, 0.0, 0.0]]))
    assert gradient["probability"].abs().max() < 1e-12  # saturated
    assert torch.equal(gradient["margin"], torch.tensor([[1.0, -1.0, 0.0]]))
    both = torch.tensor([[1.0, 0.0, 0.0]]) + gradient["log_probability"]
    torch.testing.assert_close(gradient["rest"], both)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", COMPARING)
def test_half_precision_logits_are_scored_in_float32(name, dtype):
    clean = logits(2).to(dtype)
    bound = KINDS[name](1).bind(clean, no_run)
    scores = bound(clean, torch.arange(2))
    assert scores.dtype == torch.float32
    exact = KINDS[name](1).bind(clean.double(), no_run)(clean.double(), torch.arange(2))
    torch.testing.assert_close(scores.double(), exact, rtol=1e-5, atol=1e-6)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_found_in_containers(name):
    clean, owner = logits(2), torch.arange(2)
    expected = KINDS[name]().bind(clean, no_run)(clean, owner)
    for output in (
        {"logits": clean, "aux": logits(2, seed=5)},
        Output(clean, torch.zeros(2, 3, dtype=torch.float64)),
        (clean,),
    ):
        assert torch.equal(KINDS[name]().bind(output, no_run)(output, owner), expected)


LABELS = {
    "probability": "probability of {}",
    "log_probability": "log probability of {}",
    "rest": "ReST of {}",
    "counterfactual": "against {}",
}


@pytest.mark.parametrize("name", LABELS)
def test_every_image_has_its_label(name):
    target = KINDS[name]((4, 1, 4))
    bound = target.bind(logits(3), no_run)
    assert isinstance(target, Target)
    assert isinstance(bound, BoundTarget)
    info = bound.describe()
    four, one = (LABELS[name].format(f"class {index}") for index in (4, 1))
    assert info.labels == (four, one, four)
    assert info.label == f"{four}, {one}"
    assert info.differentiable


@pytest.mark.parametrize("name", COMPARING)
def test_the_classes_are_told(name):
    assert KINDS[name]((4, 1)).bind(logits(2), no_run).describe().classes.tolist() == [4, 1]


def test_what_speaks_against_a_class_is_no_target_of_it():
    assert Counterfactual(1).bind(logits(2), no_run).describe().classes is None


def test_margin_names_the_rival():
    clean = torch.tensor([[0.0, 5.0, 4.0, 1.0]])
    assert Margin().bind(clean, no_run).describe().label == "class 1 over class 2"
    assert Margin(3).bind(clean, no_run).describe().label == "class 3 over class 1"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("requested", "words"),
    [
        (5, r"class 5 is out of range.*0\.\.4"),
        (-1, r"class -1 is out of range.*0\.\.4"),
        (True, r"integer in 0\.\.4"),
        ((1,), "1 targets for 2 images"),
        ((1, 2, 3), "3 targets for 2 images"),
        ((1, 2.5), "integer"),
    ],
)
def test_wrong_classes(name, requested, words):
    with pytest.raises(TargetError, match=words):
        KINDS[name](requested).bind(logits(2), no_run)


@pytest.mark.parametrize("name", COMPARING)
def test_one_output_has_no_classes_to_compare(name):
    with pytest.raises(TargetError, match=r"\[2, 1\].*at least two; pass target=0"):
        KINDS[name](0).bind(logits(2, classes=1), no_run)
