"""Numbers worked out by hand on a 2 x 4 picture."""

from __future__ import annotations

import math

import pytest
import torch
from metric_proof.given import explained, truth

from camkit_metrics.contrast import Contrast
from camkit_metrics.energy import Energy
from camkit_metrics.gridpg import GridPG
from camkit_metrics.iou import IoU
from camkit_metrics.pointing import Pointing
from camkit_metrics.rankaccuracy import RankAccuracy

MAP = [[0.1, 0.8, 0.0, 0.4], [0.3, 1.0, 0.2, 0.2]]  # sums to 3
TARGET = [[1, 1, 0, 0], [0, 0, 0, 0]]
RIVAL = [[0, 0, 0, 1], [0, 0, 1, 1]]
LEFT = [[1, 1, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Energy(), 0.9 / 3.0),
        (Contrast(), 0.9 / (0.9 + 0.8)),
        (Contrast(per="pixel"), 0.45 / (0.45 + 0.8 / 3)),
        (GridPG(), 2.2 / 3.0),
        (Pointing(), 0.0),  # the 1.0 lies below the target
        (Pointing(tolerance=1), 1.0),
        (IoU(), 1 / 3),  # {1.0, 0.8}: one hit, three in the union; later cuts do no better
        (IoU(threshold=0.05), 2 / 7),
        (IoU(threshold=1.0), 0.0),
        (RankAccuracy(), 1 / 2),  # 1.0 outside, 0.8 inside
    ],
    ids=repr,
)
def test_by_hand(metric, expected):
    value = metric(explained([MAP]), truth([TARGET], [RIVAL], [LEFT]))
    assert value.tolist() == pytest.approx([expected], abs=1e-7)


def test_negative_values_are_evidence_against_and_do_not_count():
    signed = [[[-5.0, 1.0, 0.0, 1.0], [-2.0, 0.0, 2.0, 0.0]]]
    evidence = truth([TARGET], [RIVAL], [LEFT])
    assert Energy()(explained(signed), evidence).item() == pytest.approx(1 / 4)
    assert Contrast()(explained(signed), evidence).item() == pytest.approx(1 / 4)


def test_equal_maxima_are_averaged_not_picked_by_their_place():
    flat = explained(torch.ones(1, 2, 4))
    assert Pointing()(flat, truth([TARGET])).item() == pytest.approx(2 / 8)
    corner = explained([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])
    assert Pointing()(corner, truth([TARGET])).item() == 0.5


def test_equal_ranks_are_drawn_by_lot():
    # One place is sure and inside, one more is drawn from the seven zeros, one of them inside.
    sparse = explained([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    assert RankAccuracy()(sparse, truth([TARGET])).item() == pytest.approx((1 + 1 / 7) / 2)


def test_equal_values_are_cut_together():
    level = explained([[[0.5, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]])
    assert IoU()(level, truth([TARGET])).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(("tolerance", "hit"), [(0, 0), (4, 0), (5, 1), (6, 1)])
def test_the_tolerance_is_a_euclidean_distance(tolerance, hit):
    maps, target = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    maps[0, 0, 0] = 1
    target[0, 3, 4] = 1  # five pixels away
    assert Pointing(tolerance=tolerance)(explained(maps), truth(target)).item() == hit


def test_a_tolerance_beyond_the_picture_accepts_everything():
    maps = torch.rand(2, 5, 3)
    target = torch.zeros(2, 5, 3)
    target[:, 4, 2] = 1
    assert Pointing(tolerance=40)(explained(maps), truth(target)).tolist() == [1, 1]


def test_overlapping_masks_count_for_the_target():
    evidence = truth([[[1, 1, 0, 0]]], [[[0, 1, 1, 0]]])
    maps = explained([[[0.0, 0.6, 0.2, 1.0]]])
    assert Contrast()(maps, evidence).item() == pytest.approx(0.75)
    assert math.isnan(Contrast()(maps, truth([[[1, 1, 0, 0]]], [[[1, 1, 0, 0]]])).item())
