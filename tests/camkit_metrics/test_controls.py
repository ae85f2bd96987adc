"""What must hold whatever the pictures are: the truth gets 1, luck gets chance."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from metric_proof.given import METRICS, boxes, explained, truth
from pydantic import ValidationError

from camkit_core import CapabilityError, Evidence
from camkit_metrics.contrast import Contrast
from camkit_metrics.controls import Center, Oracle, Random, Sobel
from camkit_metrics.energy import Energy
from camkit_metrics.gridpg import GridPG
from camkit_metrics.pointing import Pointing
from camkit_metrics.rankaccuracy import RankAccuracy

COUNT = 2000


def judged(metric, control, evidence, seed=0, inputs=None):
    blank = explained(torch.zeros(evidence.truth.target.shape), inputs)
    maps = control(blank, evidence, seed)
    return metric(dataclasses.replace(blank, maps=maps), evidence)


@pytest.mark.parametrize("size", [(16,), (12, 10), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_oracle_gets_one(metric, size):
    assert judged(metric(), Oracle(), boxes(30, *size)).tolist() == [1.0] * 30


@pytest.mark.parametrize("metric", [Energy, Pointing, RankAccuracy], ids=lambda m: m.name)
def test_noise_gets_the_objects_share_of_the_picture(metric):
    evidence = boxes(COUNT, 12, 10, seed=1)
    share = evidence.truth.target.flatten(1).double().mean(1)
    off = judged(metric(), Random(), evidence) - share
    assert abs(off.mean()) <= 4 * off.std() / math.sqrt(COUNT)
    assert off.std() > 0


def test_noise_gets_one_over_the_cells_in_a_mosaic():
    evidence = boxes(COUNT, 12, 10, seed=2)
    values = judged(GridPG(), Random(), evidence)
    assert abs(values.mean() - 0.5) <= 4 * values.std() / math.sqrt(COUNT)


@pytest.mark.parametrize("control", [Random(), Center(), Sobel()], ids=lambda c: c.name)
@pytest.mark.parametrize("per", ["object", "pixel"])
def test_what_is_blind_to_the_class_gets_one_half_over_both_objects(control, per):
    evidence = boxes(200, 12, 10, seed=3)
    known = evidence.truth
    swapped = truth(known.rivals, known.target)
    inputs = torch.rand(200, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    both = [judged(Contrast(per=per), control, e, 7, inputs) for e in (evidence, swapped)]
    torch.testing.assert_close(both[0] + both[1], torch.ones(200, dtype=torch.float64))
    assert both[0].std() > 0.1  # single values are anything


def test_noise_is_seeded_private_and_different_per_image():
    evidence = boxes(3, 12, 10)
    blank = explained(torch.zeros(3, 12, 10))
    state = torch.random.get_rng_state()
    first, again, other = (Random()(blank, evidence, seed) for seed in (1, 1, 2))
    assert bool((torch.random.get_rng_state() == state).all())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_the_center_falls_off_alike_on_all_sides():
    blank = explained(torch.zeros(2, 5, 9))
    maps = Center(sigma=0.5)(blank, truth(blank.maps), 0)
    assert maps[0, 2, 4] == maps.max() == 1
    assert torch.equal(maps[1], maps[0].flip(0, 1))
    assert maps[0, 2, 0].item() == pytest.approx(math.exp(-((4 / 9) ** 2) / (2 * 0.25)))
    assert maps[0, 0, 4].item() == pytest.approx(math.exp(-((2 / 5) ** 2) / (2 * 0.25)))


def test_edges_are_where_the_picture_changes():
    inputs = torch.zeros(2, 3, 7, 8)
    inputs[0, :, :, 4:] = 1  # a step between columns 3 and 4
    blank = explained(torch.zeros(2, 7, 8), inputs)
    maps = Sobel()(blank, truth(blank.maps), 0)
    assert torch.equal(maps[0], torch.tensor([0.0, 0, 0, 1, 1, 0, 0, 0]).expand(7, 8))
    assert torch.equal(maps[1], torch.zeros(7, 8))  # nothing changes, nothing is divided by 0


def test_edges_have_a_direction_free_strength():
    inputs = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    blank = explained(torch.zeros(1, 6, 6), inputs)
    turned = dataclasses.replace(blank, inputs=inputs.transpose(2, 3))
    evidence = truth(blank.maps)
    maps = Sobel()(blank, evidence, 0)
    torch.testing.assert_close(Sobel()(turned, evidence, 0), maps.transpose(1, 2))
    gray = inputs.mean(1)[0]
    down = sum(w * (gray[2, c] - gray[0, c]) for c, w in ((0, 1), (1, 2), (2, 1)))
    right = sum(w * (gray[r, 2] - gray[r, 0]) for r, w in ((0, 1), (1, 2), (2, 1)))
    below = sum(w * (gray[4, c] - gray[2, c]) for c, w in ((2, 1), (3, 2), (4, 1)))
    aside = sum(w * (gray[r, 4] - gray[r, 2]) for r, w in ((2, 1), (3, 2), (4, 1)))
    ratio = maps[0, 1, 1] / maps[0, 3, 3]
    torch.testing.assert_close(ratio, torch.hypot(down, right) / torch.hypot(below, aside))


def test_an_oracle_without_truth_is_refused():
    with pytest.raises(CapabilityError, match=r"control oracle .* pass Evidence\(truth="):
        Oracle()(explained(torch.zeros(1, 2, 2)), Evidence(), 0)


def test_options_are_validated():
    with pytest.raises(ValidationError, match="sigma"):
        Center(sigma=0)
    with pytest.raises(ValidationError, match="tolerance"):
        Pointing(tolerance=-1)
    with pytest.raises(ValidationError, match="per"):
        Contrast(per="image")
