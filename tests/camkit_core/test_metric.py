"""What core gives every metric: the truth on the right device, and an honest mean."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from camkit_core import (
    CapabilityError,
    Evidence,
    Explanation,
    Interval,
    MetricModel,
    Provenance,
    TargetInfo,
    Truth,
    mean_interval,
)


class Inside(MetricModel):
    """Mean of the map inside the target."""

    name: ClassVar[str] = "inside"
    power: float = 1.0

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        target = self.truth(explanation, evidence).target
        return (explanation.maps**self.power * target).flatten(1).sum(1) / target.flatten(1).sum(1)


def explained(maps: Tensor) -> Explanation:
    provenance = Provenance(
        method="given",
        parameters={},
        package="tests",
        version="0",
        core_version="0",
        layers=(),
        reshape={},
        target="given",
        seed=0,
        dtype="float32",
        device="cpu",
        input_shape=(),
        post=(),
        forwards=0,
        backwards=0,
    )
    return Explanation(
        maps=maps,
        raw={},
        score=maps.flatten(1).sum(1),
        output=None,
        inputs=maps[:, None],
        target=TargetInfo(kind="class", label="given"),
        provenance=provenance,
    )


MAPS = torch.arange(12.0).reshape(2, 2, 3)


def test_the_truth_reaches_the_metric():
    target = torch.zeros(2, 2, 3, dtype=torch.bool)
    target[0, 0, :2] = True  # 0 and 1
    target[1, 1, 2] = True  # 11
    evidence = Evidence(truth=Truth(target=target))
    assert Inside()(explained(MAPS), evidence).tolist() == [0.5, 11]
    assert Inside(power=2)(explained(MAPS), evidence).tolist() == [0.5, 121]


def test_masks_of_numbers_become_masks_of_truth_values():
    ones = torch.ones(2, 2, 3)
    truth = Inside().truth(explained(MAPS), Evidence(truth=Truth(target=2 * ones, cell=0 * ones)))
    assert truth.target.dtype == truth.cell.dtype == torch.bool
    assert bool(truth.target.all())
    assert not bool(truth.cell.any())
    assert truth.rivals is None


def test_the_truth_follows_the_maps_to_their_device():
    maps = MAPS.to("meta")
    truth = Inside().truth(explained(maps), Evidence(truth=Truth(target=MAPS > 3, rivals=MAPS < 2)))
    assert truth.target.device.type == truth.rivals.device.type == "meta"


def test_a_missing_truth_says_what_to_pass():
    with pytest.raises(CapabilityError, match=r"metric inside .*pass Evidence\(truth=Truth\("):
        Inside()(explained(MAPS), Evidence())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_are_no_mask_are_refused(value):
    mask = torch.ones(2, 2, 3)
    mask[1, 1, 1] = value
    with pytest.raises(CapabilityError, match="a mask is a tensor of truth values"):
        Inside()(explained(MAPS), Evidence(truth=Truth(target=mask)))


def test_a_list_is_no_mask():
    with pytest.raises(CapabilityError, match="a mask is a tensor"):
        Inside()(explained(MAPS), Evidence(truth=Truth(target=[[True]])))


@pytest.mark.parametrize("which", ["target", "rivals", "cell"])
def test_any_mask_of_another_shape_is_refused_with_both_shapes(which):
    good, bad = torch.ones(2, 2, 3), torch.ones(2, 3, 3)
    masks = {"target": good, which: bad}
    with pytest.raises(CapabilityError, match=r"\[2, 3, 3\].* must have .*maps, \[2, 2, 3\]"):
        Inside()(explained(MAPS), Evidence(truth=Truth(**masks)))


def test_a_metric_is_its_options():
    assert Inside(power=2) == Inside(power=2) != Inside()
    assert hash(Inside(power=2)) == hash(Inside(power=2))
    assert Inside.higher_is_better
    assert Inside.paper is None
    with pytest.raises(ValueError, match="strength"):
        Inside(strength=2)


# -- intervals -----------------------------------------------------------------------------------


def test_an_interval_reads_like_one():
    assert str(Interval(0.8124, 0.79, 0.8341, 40)) == "0.812 [0.790, 0.834]"


def test_the_mean_is_the_mean_and_lies_inside():
    values = torch.tensor([0.1, 0.4, 0.7, 1.0])
    found = mean_interval(values)
    assert found.mean == pytest.approx(0.55)
    assert 0.1 < found.low < 0.55 < found.high < 1.0
    assert found.count == 4


def test_undefined_values_are_left_out_and_counted_out():
    values = torch.tensor([0.1, math.nan, 0.4, 0.7, math.nan, 1.0])
    assert mean_interval(values) == mean_interval(values[~values.isnan()])
    assert mean_interval(values).count == 4


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_nothing_defined_gives_no_number(values):
    found = mean_interval(torch.tensor(values))
    assert found.count == 0
    assert all(math.isnan(number) for number in (found.mean, found.low, found.high))


def test_one_value_and_equal_values_leave_no_doubt_to_resample():
    assert mean_interval(torch.tensor([0.25])) == Interval(0.25, 0.25, 0.25, 1)
    assert mean_interval(torch.full((9,), 0.5)) == Interval(0.5, 0.5, 0.5, 9)


def test_a_higher_level_gives_a_wider_interval():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    narrow, usual, wide = (mean_interval(values, level=level) for level in (0.5, 0.95, 0.999))
    assert wide.low < usual.low < narrow.low < narrow.high < usual.high < wide.high


def test_the_interval_is_seeded_and_leaves_the_global_generator_alone():
    values = torch.rand(30, generator=torch.Generator().manual_seed(1))
    state = torch.random.get_rng_state()
    first = mean_interval(values)
    torch.rand(7)
    assert mean_interval(values) == first
    torch.random.set_rng_state(state)
    mean_interval(values)
    assert bool((torch.random.get_rng_state() == state).all())
    assert mean_interval(values, seed=5) != first
    assert mean_interval(values, seed=5).mean == first.mean


def test_the_width_is_that_of_the_normal_theory_where_it_holds():
    values = torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = mean_interval(values, draws=8000)
    expected = 2 * 1.96 * values.std(correction=0).item() / math.sqrt(400)
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_nineteen_of_twenty_intervals_hold_the_true_mean():
    """Skewed values (mean 1), 40 per sample: percentile intervals cover a little under 95 %."""
    generator = torch.Generator().manual_seed(3)
    samples = -torch.rand(400, 40, generator=generator, dtype=torch.float64).log()
    held = 0
    for seed, sample in enumerate(samples):
        found = mean_interval(sample, draws=400, seed=seed)
        held += found.low <= 1 <= found.high
    assert 0.90 <= held / 400 <= 0.97  # measured 0.93; one standard error is 0.011
