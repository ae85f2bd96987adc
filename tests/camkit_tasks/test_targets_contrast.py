"""Finer-CAM's target against its formulas, in plain Python, and the choice of its references."""

from __future__ import annotations

import math

import pytest
import torch

from camkit_core import TargetError
from camkit_tasks import Finer, Margin


def logits(rows: int, classes: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def no_run(inputs):
    raise AssertionError("this target needs no further run")


def nearest(row: list[float], c: int, count: int) -> list[int]:
    others = [k for k in range(len(row)) if k != c]
    return sorted(others, key=lambda k: abs(row[k] - row[c]))[:count]


def by_hand(variant: str, row: list[float], c: int, references: list[int], strength: float):
    if variant == "paper":
        return row[c] - strength * sum(row[d] for d in references) / len(references)
    total = sum(math.exp(y) for y in row)
    p = {d: math.exp(row[d]) / total for d in references}
    wanted = sum(p[d] * (row[c] - strength * row[d]) for d in references)
    return wanted / (sum(p.values()) + 1e-9)


@pytest.mark.parametrize("strength", [None, 0.25])
@pytest.mark.parametrize("against", [None, (0, 3)])
@pytest.mark.parametrize("variant", ["paper", "grad-cam"])
def test_formula_with_references_frozen_on_the_clean_output(variant, against, strength):
    clean, owner = logits(3), torch.tensor([2, 0, 0, 1, 2])
    changed, classes = logits(5, seed=9), (1, 5, 4)
    target = Finer(classes, against=against, variant=variant, strength=strength)
    scores = target.bind(clean, no_run)(changed, owner)
    published = {"paper": 0.6, "grad-cam": 1.0}[variant]
    moved = 0
    for m, image in enumerate(owner.tolist()):
        row, c = changed[m].tolist(), classes[image]
        references = list(against) if against else nearest(clean[image].tolist(), c, 3)
        moved += set(references) != set(nearest(row, c, 3))
        wanted = by_hand(variant, row, c, references, published if strength is None else strength)
        assert scores[m].item() == pytest.approx(wanted, abs=1e-12)
    assert moved > 0  # otherwise references chosen anew would have passed


@pytest.mark.parametrize("variant", ["paper", "grad-cam"])
def test_gradient_also_through_the_weights(variant):
    bound = Finer((1, 2), variant=variant).bind(logits(2), no_run)
    rows, owner = logits(3, seed=4).requires_grad_(), torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda y: bound(y, owner), (rows,))
    assert torch.autograd.gradgradcheck(lambda y: bound(y, owner), (rows,))


def test_without_strength_the_paper_leaves_the_logit_and_with_all_of_it_the_margin():
    clean = logits(2)
    owner = torch.arange(2)
    alone = Finer((3, 0), strength=0.0).bind(clean, no_run)(clean, owner)
    assert torch.equal(alone, clean[owner, torch.tensor([3, 0])])
    best = clean.argmax(1)
    contrast = Finer(nearest=1, strength=1.0).bind(clean, no_run)(clean, owner)
    torch.testing.assert_close(contrast, Margin().bind(clean, no_run)(clean, owner))
    assert Finer().bind(clean, no_run).describe().classes.tolist() == best.tolist()


@pytest.mark.parametrize(("classes", "count"), [(2, 1), (3, 2), (4, 3), (9, 3)])
def test_small_models_have_fewer_references(classes, count):
    clean = logits(1, classes)
    bound = Finer(0).bind(clean, no_run)
    wanted = nearest(clean[0].tolist(), 0, count)
    assert bound.references.tolist() == [wanted]
    assert 0 not in wanted


def test_a_class_of_equal_score_is_a_reference_and_the_class_itself_never():
    clean = torch.tensor([[2.0, 2.0, 2.0, -9.0]])
    assert Finer(2, nearest=2).bind(clean, no_run).references.tolist() == [[0, 1]]


def test_label():
    clean = torch.tensor([[0.0, 5.0, 4.0, 1.0], [7.0, 0.0, 1.0, 6.0]])
    info = Finer(nearest=2).bind(clean, no_run).describe()
    assert info.labels == ("class 1 vs class 2, class 3", "class 0 vs class 3, class 2")
    assert Finer(1, against=(2,)).bind(clean, no_run).describe().label == "class 1 vs class 2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"variant": "mean"}, "choose 'paper' or 'grad-cam'"),
        ({"nearest": 0}, "at least one reference"),
        ({"against": ()}, "at least one reference"),
        ({"strength": math.nan}, "finite"),
        ({"strength": -math.inf}, "finite"),
    ],
)
def test_nonsense_is_refused_at_once(words, said):
    with pytest.raises(TargetError, match=said):
        Finer(**words)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Finer(6), r"class 6 is out of range.*0\.\.5"),
        (Finer(0, against=(1, 6)), r"class 6 is out of range.*0\.\.5"),
        (Finer(0, against=(-1,)), r"class -1 is out of range"),
        (Finer((0, 1), against=(2, 1)), "image 1: class 1 is to be compared with itself"),
        (Finer((0, 1, 2)), "3 targets for 2 images"),
    ],
)
def test_wrong_classes(target, said):
    with pytest.raises(TargetError, match=said):
        target.bind(logits(2), no_run)


def test_one_output_has_nothing_to_compare():
    with pytest.raises(TargetError, match=r"\[2, 1\].*at least two"):
        Finer().bind(logits(2, classes=1), no_run)
