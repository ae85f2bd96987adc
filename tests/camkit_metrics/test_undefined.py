"""Maps and truths that leave nothing to measure, or the wrong thing."""

from __future__ import annotations

import pytest
import torch
from metric_proof.given import METRICS, boxes, explained, truth

from camkit_core import CapabilityError, Evidence
from camkit_metrics.contrast import Contrast
from camkit_metrics.energy import Energy
from camkit_metrics.gridpg import GridPG
from camkit_metrics.iou import IoU
from camkit_metrics.pointing import Pointing
from camkit_metrics.rankaccuracy import RankAccuracy

NAMES = [metric.name for metric in METRICS]


def spoiled(value):
    maps = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    if value == "empty":
        maps[1] = 0
    elif value == "negative":
        maps[1] -= 2
    else:
        maps[1, 5, 5] = float(value)
    return maps


@pytest.mark.parametrize("value", ["empty", "negative", "nan", "inf", "-inf"])
@pytest.mark.parametrize("metric", METRICS, ids=NAMES)
def test_a_map_that_points_nowhere_is_undefined_and_its_neighbors_are_not(metric, value):
    found = metric()(explained(spoiled(value)), boxes(3, 6, 6))
    assert found.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("metric", METRICS, ids=NAMES)
def test_an_empty_mask_is_undefined(metric):
    evidence = boxes(3, 6, 6)
    known = evidence.truth
    mask = known.cell if metric is GridPG else known.target
    mask[1] = False
    found = metric()(explained(torch.rand(3, 6, 6)), evidence)
    assert found.isnan().tolist() == [False, True, False]


def test_a_picture_without_rivals_has_no_contrast():
    evidence = boxes(2, 6, 6)
    evidence.truth.rivals[0] = False
    found = Contrast()(explained(torch.rand(2, 6, 6)), evidence)
    assert found.isnan().tolist() == [True, False]


def test_relevance_on_neither_object_has_no_contrast_but_has_energy():
    evidence = truth([[[1, 0, 0]]], [[[0, 1, 0]]])
    maps = explained([[[0.0, 0.0, 1.0]]])
    assert Contrast()(maps, evidence).isnan().all()
    assert Energy()(maps, evidence).item() == 0


def test_a_constant_map_gets_what_its_size_gives():
    evidence = boxes(4, 6, 6)
    share = evidence.truth.target.flatten(1).double().mean(1)
    for metric in (Energy(), Pointing(), IoU(), RankAccuracy()):
        torch.testing.assert_close(metric(explained(torch.full((4, 6, 6), 0.3)), evidence), share)


@pytest.mark.parametrize("metric", METRICS, ids=NAMES)
def test_without_truth_a_metric_says_what_to_pass(metric):
    with pytest.raises(CapabilityError, match=rf"metric {metric.name} .* pass Evidence\(truth="):
        metric()(explained(torch.rand(1, 4, 4)), Evidence())


@pytest.mark.parametrize("metric", METRICS, ids=NAMES)
def test_masks_of_another_shape_are_refused(metric):
    with pytest.raises(CapabilityError, match=r"masks .* must have the shape of the maps"):
        metric()(explained(torch.rand(2, 6, 6)), boxes(2, 6, 8))


def test_contrast_without_rivals_and_gridpg_without_cells_say_what_else_to_use():
    alone = truth(torch.ones(1, 4, 4))
    with pytest.raises(CapabilityError, match=r"contrast .*pass Truth\(.*rivals=.*or use energy"):
        Contrast()(explained(torch.rand(1, 4, 4)), alone)
    with pytest.raises(CapabilityError, match=r"gridpg .*mosaics.*cell=.*or use energy"):
        GridPG()(explained(torch.rand(1, 4, 4)), alone)
