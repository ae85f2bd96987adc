"""Feature pyramids: one level as it is, or all of them on one grid and back."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from tasks_proof.methods import Drops, Slope
from torch import nn
from torch.nn.functional import interpolate

from camkit_core import LayoutError, explain
from camkit_core.testing import check_reshape
from camkit_tasks import plugin
from camkit_tasks.reshapes.fpn import FPN

SIZES = {"0": (8, 12), "1": (4, 6), "pool": (2, 3)}
CHANNELS = {"0": 3, "1": 4, "pool": 2}


def pyramid(n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict(
        (name, torch.randn(n, CHANNELS[name], *size, generator=generator, dtype=torch.float64))
        for name, size in SIZES.items()
    )


@pytest.mark.parametrize("level", ["0", "1", "pool"])
def test_one_level_conforms(level):
    report = check_reshape(FPN(level=level), pyramid(), pyramid(3))
    assert report.count("passed") == 8


RESIZED = "levels are resized to one grid: linear, but not a selection of values"


def test_all_levels_conform_in_everything_but_being_a_selection():
    moved = ("structural", "gradients", "keeps_the_rest", "round_trip", "raster_order")
    check_reshape(FPN(), pyramid(), expected_failures=dict.fromkeys(moved, RESIZED))


def test_all_levels_on_the_middle_grid():
    levels = pyramid()
    found = FPN().to_spatial(levels)
    assert found.shape == (2, 9, 4, 6)
    expected = [interpolate(level, (4, 6), mode="bilinear") for level in levels.values()]
    torch.testing.assert_close(found, torch.cat(expected, 1))
    assert torch.equal(found[:, 3:7], levels["1"])
    assert FPN(grid="pool").to_spatial(levels).shape == (2, 9, 2, 3)


def test_back_come_unchanged_channels_exactly_and_changed_ones_resized():
    levels = pyramid()
    maps = FPN().to_spatial(levels)
    back = FPN().from_spatial(maps, levels)
    assert type(back) is OrderedDict
    assert all(torch.equal(back[name], levels[name]) for name in levels)
    maps[0, 1] = 0.0  # second channel of the finest level
    maps[1, 8] = 2.5  # last channel of the coarsest
    changed = FPN().from_spatial(maps, levels)
    wanted = {name: level.clone() for name, level in levels.items()}
    wanted["0"][0, 1] = 0.0
    wanted["pool"][1, 1] = 2.5
    for name, level in wanted.items():
        torch.testing.assert_close(changed[name], level)


def test_linear():
    one, other = pyramid(seed=1), pyramid(seed=2)
    both = {name: 2 * one[name] - other[name] for name in one}
    reshape = FPN()
    torch.testing.assert_close(
        reshape.to_spatial(both), 2 * reshape.to_spatial(one) - reshape.to_spatial(other)
    )


@pytest.mark.parametrize(
    ("reshape", "output", "said"),
    [
        (FPN(level="7"), pyramid(), "no level '7', only 0, 1, pool"),
        (FPN(grid="7"), pyramid(), "no level '7'"),
        (FPN(), torch.zeros(2, 3, 4, 4), r"the layer returns \[2, 3, 4, 4\]"),
        (FPN(), {"a": torch.zeros(2, 3, 4, 4), "b": None}, "the layer returns dict"),
        (FPN(), {"a": torch.zeros(2, 3, 4, 4), "b": torch.zeros(3, 3, 4, 4)}, "returns dict"),
        (FPN(), {}, "returns dict"),
    ],
)
def test_other_outputs_are_refused(reshape, output, said):
    with pytest.raises(LayoutError, match=said):
        reshape.to_spatial(output)


def test_maps_that_do_not_fit_are_refused():
    for reshape in (FPN(), FPN(level="0")):
        with pytest.raises(LayoutError, match="do not fit the pyramid"):
            reshape.from_spatial(torch.zeros(2, 9, 5, 5), pyramid())


class Pyramid(nn.Module):
    """A stem, a dictionary of three levels, and a score that each level takes part in."""

    def __init__(self):
        super().__init__()
        self.neck = Neck()
        self.head = nn.Linear(9, 4)

    def forward(self, x):
        levels = self.neck(x)
        return self.head(torch.cat([level.tanh().mean((2, 3)) for level in levels.values()], 1))


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [3, *CHANNELS.values()]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))

    def forward(self, x):
        found = OrderedDict()
        for name, stage in zip(CHANNELS, self.stages, strict=True):
            found[name] = x = stage(x)
        return found


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Pyramid().double().eval()


def test_found_for_a_layer_that_returns_a_dictionary():
    net, x = network(), torch.rand(2, 3, 16, 24, dtype=torch.float64)
    found = explain(net, x, Slope(), target=1, layers="neck")
    assert found.provenance.reshape == {"neck": "FPN(level=None, grid=None)"}
    levels = {name: level.detach().requires_grad_() for name, level in net.neck(x).items()}
    means = torch.cat([level.tanh().mean((2, 3)) for level in levels.values()], 1)
    gradients = torch.autograd.grad(net.head(means)[:, 1].sum(), list(levels.values()))
    resized = FPN().to_spatial(dict(zip(SIZES, gradients, strict=True)))
    wanted = (resized * FPN().to_spatial(levels).detach()).sum(1)
    torch.testing.assert_close(found.raw["neck"], wanted)
    one = explain(net, x, Slope(), target=1, layers="neck", reshape="fpn:level=1").raw["neck"]
    torch.testing.assert_close(one, (gradients[1] * levels["1"].detach()).sum(1))


def test_ablation_through_the_dictionary():
    net, x = network(), torch.rand(1, 3, 16, 24, dtype=torch.float64)
    found = explain(net, x, Drops(), target=1, layers="neck")
    assert not [note for note in found.provenance.notes if "SLOW" in note]
    maps, total = FPN().to_spatial(net.neck(x)).detach(), 0.0
    for channel in range(9):
        levels = net.neck(x)
        name, place = next(
            (name, channel - start)
            for name, start in (("pool", 7), ("1", 3), ("0", 0))
            if channel >= start
        )
        levels[name][:, place] = 0
        score = net.head(torch.cat([level.tanh().mean((2, 3)) for level in levels.values()], 1))
        total = total + (net(x)[0, 1] - score[0, 1]).item() * maps[:, channel]
    torch.testing.assert_close(found.raw["neck"], total)


@pytest.mark.parametrize(
    "output",
    [
        {"out": torch.zeros(2, 5, 4, 6), "aux": torch.zeros(2, 3, 4, 6)},
        {"one": torch.zeros(2, 5, 4, 6)},
        {"a": torch.zeros(2, 5, 4, 6), "b": torch.zeros(2, 5)},
        {"a": torch.zeros(2, 5, 4, 6), "b": 3},
        [torch.zeros(2, 5, 4, 6), torch.zeros(2, 5, 2, 3)],
    ],
)
def test_other_containers_are_no_pyramid(output):
    image = torch.zeros(2, 3, 16, 24)
    assert plugin.camkit_reshape_for(nn.Identity(), "layer", nn.Identity(), output, image) is None
