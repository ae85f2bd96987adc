"""Changes that must not change a value, and changes that must."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from metric_proof.given import DEVICE, METRICS, boxes, explained

from camkit_core import Evidence, Truth
from camkit_metrics.controls import Center, Oracle, Random, Sobel
from camkit_metrics.pointing import Pointing

ALL = [*(metric() for metric in METRICS), Pointing(tolerance=3)]
SIZE = (12, 10)


@pytest.fixture
def maps():
    return torch.rand(8, *SIZE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.fixture
def evidence():
    return boxes(8, *SIZE, seed=9)


def part(evidence, rows):
    known = evidence.truth
    return Evidence(
        truth=Truth(target=known.target[rows], rivals=known.rivals[rows], cell=known.cell[rows])
    )


@pytest.mark.parametrize("metric", ALL, ids=repr)
@pytest.mark.parametrize("factor", [1e-300, 0.01, 7.0, 1e300])
def test_the_scale_of_a_map_says_nothing(metric, factor, maps, evidence):
    plain, scaled = (metric(explained(m), evidence) for m in (maps, factor * maps))
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ALL, ids=repr)
def test_neighbors_in_the_batch_say_nothing(metric, maps, evidence):
    together = metric(explained(maps), evidence)
    for row in range(len(maps)):
        alone = metric(explained(maps[row : row + 1]), part(evidence, slice(row, row + 1)))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-14)
    assert metric(explained(maps[:0]), part(evidence, slice(0, 0))).shape == (0,)


@pytest.mark.parametrize("metric", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_of_a_map_says_nothing_more_than_its_values(metric, dtype, maps, evidence):
    rounded = maps.to(dtype)
    found = metric(explained(rounded), evidence)
    torch.testing.assert_close(found, metric(explained(rounded.double()), evidence))
    assert found.dtype == torch.float64


@pytest.mark.parametrize("metric", ALL, ids=repr)
def test_turning_the_picture_and_its_truth_together_says_nothing(metric, maps, evidence):
    known = evidence.truth
    turned = Evidence(
        truth=Truth(
            target=known.target.flip(1).transpose(1, 2),
            rivals=known.rivals.flip(1).transpose(1, 2),
            cell=known.cell.flip(1).transpose(1, 2),
        )
    )
    found = metric(explained(maps.flip(1).transpose(1, 2)), turned)
    torch.testing.assert_close(found, metric(explained(maps), evidence), rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ALL, ids=repr)
def test_the_device_says_nothing(metric, maps, evidence):
    there = metric(explained(maps.to(DEVICE)), evidence)  # the truth may stay where it is
    assert there.device.type == DEVICE
    torch.testing.assert_close(there.cpu(), metric(explained(maps), evidence))


@pytest.mark.parametrize("control", [Random(), Center(), Sobel(), Oracle()], ids=lambda c: c.name)
def test_controls_follow_the_maps(control, maps, evidence):
    inputs = torch.rand(8, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    here = explained(maps.float(), inputs)
    there = dataclasses.replace(here, maps=here.maps.to(DEVICE), inputs=inputs.to(DEVICE))
    found = control(there, evidence, 3)
    assert found.device.type == DEVICE
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), control(here, evidence, 3))
    assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("metric", ALL, ids=repr)
def test_relevance_moved_onto_the_object_raises_the_value(metric, maps, evidence):
    better = maps + 2 * evidence.truth.target
    plain, raised = (metric(explained(m), evidence) for m in (maps, better))
    assert bool((raised >= plain).all())
    assert raised.mean() > plain.mean() + 0.05


@pytest.mark.parametrize("metric", ALL, ids=repr)
def test_nothing_given_is_changed(metric, maps, evidence):
    before, known = maps.clone(), evidence.truth.target.clone()
    metric(explained(maps.requires_grad_()), evidence)
    assert torch.equal(maps.detach(), before)
    assert torch.equal(evidence.truth.target, known)
