"""Every metric against its slow twin, to 1e-12, in one, two and three dimensions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_proof import reference
from metric_proof.given import boxes, explained, truth

from camkit_metrics.contrast import Contrast
from camkit_metrics.energy import Energy
from camkit_metrics.gridpg import GridPG
from camkit_metrics.iou import IoU
from camkit_metrics.pointing import Pointing
from camkit_metrics.rankaccuracy import RankAccuracy

PAIRS = [
    (Energy(), reference.energy, {}),
    (Contrast(), reference.contrast, {}),
    (Contrast(per="pixel"), reference.contrast, {"per": "pixel"}),
    (GridPG(), reference.gridpg, {}),
    (Pointing(), reference.pointing, {}),
    (Pointing(tolerance=2), reference.pointing, {"tolerance": 2}),
    (IoU(), reference.iou, {}),
    (IoU(threshold=0.5), reference.iou, {"threshold": 0.5}),
    (RankAccuracy(), reference.rankaccuracy, {}),
]
SIZES = [(12,), (8, 6), (4, 3, 5)]


def compare(metric, twin, options, maps, evidence):
    found = metric(explained(maps), evidence).tolist()
    known = evidence.truth
    rows = zip(maps, known.target, known.rivals, known.cell, strict=True)
    expected = [twin(*(part.numpy() for part in row), **options) for row in rows]
    for value, other in zip(found, expected, strict=True):
        assert math.isnan(value) == math.isnan(other)
        assert math.isnan(value) or abs(value - other) <= 1e-12
    return expected


NAMES = [f"{type(metric).name}({metric})" for metric, _, _ in PAIRS]


@pytest.mark.parametrize(("metric", "twin", "options"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_smooth_maps(metric, twin, options, size):
    generator = torch.Generator().manual_seed(4)
    evidence = boxes(24, *size)
    maps = torch.rand(24, *size, generator=generator, dtype=torch.float64) - 0.2
    maps += 0.2 * evidence.truth.target
    values = compare(metric, twin, options, maps, evidence)
    assert len(set(values)) > 1  # neither all hits nor all misses


@pytest.mark.parametrize(("metric", "twin", "options"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_full_of_equal_values(metric, twin, options, size):
    generator = torch.Generator().manual_seed(5)
    maps = torch.randint(-1, 3, (12, *size), generator=generator).double() / 2
    maps[-1] = 0
    compare(metric, twin, options, maps, boxes(12, *size))


levels = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=6)
marks = st.lists(st.booleans(), min_size=6, max_size=6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(levels, marks)
def test_rank_accuracy_is_the_mean_over_all_orders_of_equal_values(values, marked):
    if not any(marked) or not any(values):
        return
    map_, target = torch.tensor([values]), torch.tensor([marked])
    found = RankAccuracy()(explained(map_), truth(target)).item()
    assert found == pytest.approx(reference.by_drawing(map_[0].numpy(), target[0].numpy()))
