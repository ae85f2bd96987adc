"""The leaderboard against plain loops, with stand-in methods, metrics and controls."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from rich.console import Console
from torch import nn

from camkit_core import (
    Entry,
    Evidence,
    InputError,
    Interval,
    LoadedModel,
    ModelError,
    Registry,
    Truth,
    UnknownNameError,
    explain,
    hookimpl,
    mean_interval,
)
from camkit_playground.duo import CLASS_NAMES, batch, mosaic, scene, scenes
from camkit_playground.leaderboard import (
    Cell,
    Leaderboard,
    Row,
    judge,
    leaderboard,
    markdown,
    questions,
    record,
    table,
)

sys.path.insert(0, str(Path(__file__).parent))
from playground_proof import Center, Contrast, Energy, registry_of

METHODS = ["gradcam", "eigencam"]


class Colors(nn.Module):
    """Knows red, green, blue and yellow without having learned anything."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 8, 1)
        self.look = nn.ReLU()
        hues = [[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2]]
        with torch.no_grad():
            self.colors.weight.copy_(torch.tensor(hues).repeat_interleave(2, 0)[..., None, None])
            self.colors.bias.fill_(-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.look(self.colors(x)).mean((2, 3))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(
        model=Colors().eval(),
        spec="colors",
        weights="by hand",
        preprocess=lambda photo: photo,
        class_names=CLASS_NAMES,
    )


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of()


@pytest.fixture(scope="module")
def board(registry: Registry, loaded: LoadedModel) -> Leaderboard:
    return leaderboard(registry, loaded, METHODS, count=10, layers="look")


# -- questions -----------------------------------------------------------------------------------


def test_every_scene_is_asked_for_each_of_its_objects() -> None:
    pictures = scenes(range(6))
    asked = questions(pictures)
    assert len(asked) == 6
    assert torch.equal(asked.images, batch(pictures)[0])
    for row, picture in enumerate(pictures):
        present = [index for index in range(8) if picture.labels[index]]
        assert asked.classes[row].tolist() == present
        assert [targets[row] for targets in asked.targets] == present
        for index, other, truth in zip(present, present[::-1], asked.truths, strict=True):
            assert torch.equal(truth.target[row], torch.from_numpy(picture.masks[index]))
            assert torch.equal(truth.rivals[row], torch.from_numpy(picture.masks[other]))
            assert truth.cell is None


def test_every_mosaic_is_asked_for_each_of_its_cells() -> None:
    picture = mosaic(3)
    asked = questions([picture])
    assert len(asked.truths) == 4
    for index, truth in zip(asked.classes[0].tolist(), asked.truths, strict=True):
        assert torch.equal(truth.cell[0], torch.from_numpy(picture.cells[index]))
        assert bool((truth.cell | ~truth.target).all())
        assert int(truth.cell.sum()) == 64 * 64
    together = torch.stack([truth.cell for truth in asked.truths]).sum(0)
    assert bool((together == 1).all())


def test_pictures_that_cannot_be_asked_together_are_refused() -> None:
    with pytest.raises(InputError, match="1 and 2 objects"):
        questions([scene(0), scene(1, objects=1)])
    with pytest.raises(InputError, match="at least one scene"):
        questions([])


# -- values --------------------------------------------------------------------------------------


def by_hand(loaded: LoadedModel, registry: Registry, method: str, metric, count: int):
    """Values `[N, 2]`, one explanation at a time."""
    values = []
    for seed in range(count):
        images, masks, labels = batch([scene(seed)])
        row = []
        for index in labels[0].nonzero().flatten().tolist():
            found = explain(loaded, images, method, index, "look", registry=registry)
            rest = masks.any(1) & ~masks[:, index]
            row.append(metric(found, Evidence(truth=Truth(target=masks[:, index], rivals=rest))))
        values.append(torch.cat(row))
    return torch.stack(values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", [Energy(), Contrast()], ids=lambda m: m.name)
def test_values_are_those_of_single_explanations(board, registry, loaded, method, metric) -> None:
    expected = by_hand(loaded, registry, method, metric, 10)
    cell = board.row(method).cells[metric.name]
    interval = mean_interval(expected.mean(1))
    assert cell.interval.mean == pytest.approx(interval.mean, abs=1e-6)
    assert (cell.interval.low, cell.interval.high) == pytest.approx(
        (interval.low, interval.high), abs=1e-6
    )
    assert (cell.interval.count, cell.maps, cell.undefined) == (10, 20, 0)


def test_pictures_are_resampled_not_maps(board, registry, loaded) -> None:
    values = by_hand(loaded, registry, "gradcam", Contrast(), 10)
    naive = mean_interval(values.flatten())
    found = board.row("gradcam").cells["contrast"].interval
    assert found.mean == pytest.approx(naive.mean, abs=1e-6)
    assert abs((found.high - found.low) - (naive.high - naive.low)) > 1e-3


def test_what_ignores_the_class_is_at_exactly_chance(board) -> None:
    for name, kind in (("eigencam", "method"), ("center", "control")):
        cells = board.row(name, kind).cells
        contrast = cells["contrast"].interval
        assert (contrast.mean, contrast.low, contrast.high) == pytest.approx((0.5, 0.5, 0.5))
        assert cells["gridpg"].interval.mean == pytest.approx(0.25)
        assert not cells["contrast"].better  # a difference of rounding is none
    luck = board.row("random", "control").cells["contrast"].interval
    error = (luck.high - luck.low) / (2 * 1.96)
    assert 0 < abs(luck.mean - 0.5) <= 4 * error  # its maps differ between a picture's objects


def test_the_oracle_is_at_one(board) -> None:
    for name, cell in board.row("oracle", "control").cells.items():
        assert cell.interval == Interval(float(name != "elsewhere"), *[name != "elsewhere"] * 2, 10)


def test_a_network_that_knows_colors_shows_it(board) -> None:
    cells = board.row("gradcam").cells
    assert cells["contrast"].interval.low > 0.6
    assert cells["energy"].better


# -- what is on it -------------------------------------------------------------------------------


def test_methods_come_as_given_and_controls_from_luck_to_truth(board) -> None:
    assert [(row.kind, row.name) for row in board.rows] == [
        ("method", "gradcam"),
        ("method", "eigencam"),
        ("control", "random"),
        ("control", "center"),
        ("control", "oracle"),
    ]
    assert list(board.metrics) == ["energy", "contrast", "gridpg", "elsewhere"]
    assert board.layers == ("look",)
    with pytest.raises(KeyError, match="no control 'gradcam'"):
        board.row("gradcam", "control")


def test_metrics_get_the_pictures_they_can_judge(board) -> None:
    assert board.judged_on == {
        "energy": "scenes",
        "contrast": "scenes",
        "gridpg": "mosaics",
        "elsewhere": "scenes",
    }
    assert board.left_out == {"faith": "metric faith needs the capture"}
    assert board.row("gradcam").cells["gridpg"].maps == 40


def test_undefined_maps_are_left_out_and_counted(registry, loaded) -> None:
    board = leaderboard(registry, loaded, ["nothing"], count=4, layers="look")
    cell = board.row("nothing").cells["energy"]
    assert (cell.maps, cell.undefined, cell.interval.count) == (8, 4, 2)
    assert "of 8 on scenes nothing 4" in markdown(board)
    assert record(board)["rows"][0]["values"]["energy"]["undefined_maps"] == 4


def test_better_is_decided_by_the_interval_of_the_difference(board, registry, loaded) -> None:
    center = {}
    for metric in (Energy(), Contrast()):
        rows = []
        for seed in range(10):
            images, masks, labels = batch([scene(seed)])
            blank = explain(loaded, images, "eigencam", 0, "look", registry=registry)
            row = []
            for index in labels[0].nonzero().flatten().tolist():
                rest = masks.any(1) & ~masks[:, index]
                evidence = Evidence(truth=Truth(target=masks[:, index], rivals=rest))
                maps = Center()(blank, evidence, 0)
                row.append(metric(dataclasses.replace(blank, maps=maps), evidence))
            rows.append(torch.cat(row).mean())
        center[metric.name] = torch.stack(rows)
        for method in METHODS:
            values = by_hand(loaded, registry, method, metric, 10).mean(1)
            ahead = mean_interval(values - center[metric.name]).low > 0
            assert board.row(method).cells[metric.name].better is ahead
    assert all(cell.better is None for cell in board.row("center", "control").cells.values())
    assert board.row("oracle", "control").cells["elsewhere"].better  # there, less is better
    assert {cell.better for row in board.rows for cell in row.cells.values()} == {
        True,
        False,
        None,
    }


# -- the same again ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_leaderboard(board, registry, loaded) -> None:
    torch.rand(5)
    assert leaderboard(registry, loaded, METHODS, count=10, layers="look") == board
    other = leaderboard(registry, loaded, METHODS, count=10, seed=1, layers="look")
    assert other.rows != board.rows


def test_how_many_pictures_go_at_once_changes_nothing(board, registry, loaded, monkeypatch) -> None:
    monkeypatch.setattr(judge, "_CHUNK", 3)
    again = leaderboard(registry, loaded, METHODS, count=10, layers="look")
    for row in board.rows:
        if row.name == "random":  # drawn per call
            continue
        for name, cell in row.cells.items():
            found = again.row(row.name, row.kind).cells[name]
            assert found.interval.mean == pytest.approx(cell.interval.mean, abs=1e-6)
            assert found.better is cell.better


def test_progress_counts_pictures(registry, loaded) -> None:
    told: list[tuple[int, int]] = []
    leaderboard(
        registry,
        loaded,
        METHODS,
        count=20,
        layers="look",
        progress=lambda *counts: told.append(counts),
    )
    assert told[-1] == (40, 40)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(told))


# -- what is missing -----------------------------------------------------------------------------


def test_without_metrics_it_says_so(loaded) -> None:
    with pytest.raises(UnknownNameError, match="no metric is called 'energy'"):
        leaderboard(registry_of(without=("metric",)), loaded, METHODS, count=1)


def test_without_a_baseline_nothing_is_called_better(loaded) -> None:
    poor = registry_of(without=("control",))
    board = leaderboard(poor, loaded, METHODS, count=2, layers="look")
    assert [row.name for row in board.rows] == METHODS
    assert {cell.better for row in board.rows for cell in row.cells.values()} == {None}


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_counts_out_of_range_are_refused(registry, loaded, count) -> None:
    with pytest.raises(InputError, match=f"a leaderboard of {count} scenes"):
        leaderboard(registry, loaded, METHODS, count=count)


def test_a_network_for_other_classes_is_refused(registry, loaded) -> None:
    other = dataclasses.replace(loaded, spec="resnet", class_names=("cat", "dog"))
    with pytest.raises(ModelError, match="model resnet has not the 8 classes of Duo"):
        leaderboard(registry, other, METHODS, count=1)


def test_two_metrics_of_one_name_are_both_on_it(loaded) -> None:
    other = ModuleType("other")

    @hookimpl
    def camkit_entries() -> list[Entry]:
        return [Entry(kind="metric", name="energy", ref="playground_proof:Elsewhere")]

    other.camkit_entries = camkit_entries  # type: ignore[attr-defined]
    board = leaderboard(registry_of(("other", other)), loaded, ["gradcam"], count=2, layers="look")
    assert {"other/energy", "stand-ins/energy"} < set(board.metrics)


# -- words ---------------------------------------------------------------------------------------


def printed(board: Leaderboard, *, color: bool = False) -> str:
    console = Console(width=80, force_terminal=color, color_system="standard" if color else None)
    with console.capture() as captured:
        console.print(table(board))
    return captured.get()


NAMES = ("eigengradcam", "eigencam", "center ")
SIX = ("energy", "contrast", "gridpg", "pointing", "iou", "rankaccuracy")


def six() -> Leaderboard:
    """As wide as the first-party leaderboard."""

    def cells(mean: float, better: bool | None) -> dict[str, Cell]:
        interval = Interval(mean, mean - 0.05, mean + 0.05, 24)
        return {n: Cell(interval=interval, better=better, undefined=0, maps=48) for n in SIX}

    rows = (
        Row(name="eigengradcam", kind="method", cells=cells(0.8124, True)),
        Row(name="eigencam", kind="method", cells=cells(0.3, False)),
        Row(name="center", kind="control", cells=cells(0.25, None)),
    )
    return Leaderboard(
        model="demo:cnn",
        layers=("layer3",),
        seed=0,
        scenes=24,
        mosaics=24,
        level=0.95,
        metrics=dict.fromkeys(SIX, "asks"),
        judged_on=dict.fromkeys(SIX, "scenes"),
        left_out={},
        rows=rows,
    )


def test_six_metrics_fit_into_eighty_columns() -> None:
    lines = printed(six()).splitlines()
    (row,) = [line for line in lines if line.startswith("eigengradcam")]
    assert row.split() == ["eigengradcam", *[".812±.05*"] * 6]
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_only_what_beats_the_center_is_colored() -> None:
    green = "32m"
    lines = printed(six(), color=True).splitlines()
    counts = {name: sum(line.count(green) for line in lines if name in line) for name in NAMES}
    assert counts == {"eigengradcam": 6, "eigencam": 0, "center ": 0}
    assert sum(line.count(green) for line in lines) == 6


def test_the_markdown_has_full_intervals_and_bold_for_better() -> None:
    lines = markdown(six()).splitlines()
    assert "| eigengradcam | " + " | ".join(["**0.812** [0.762, 0.862]"] * 6) + " |" in lines
    assert "| eigencam | " + " | ".join(["0.300 [0.250, 0.350]"] * 6) + " |" in lines
    assert "| *center* | " + " | ".join(["0.250 [0.200, 0.300]"] * 6) + " |" in lines


def test_the_record_is_strict_json(board) -> None:
    text = json.dumps(record(board), allow_nan=False)
    found = json.loads(text)
    assert found["rows"][0]["name"] == "gradcam"
    value = found["rows"][0]["values"]["energy"]
    assert value["mean"] == pytest.approx(
        board.row("gradcam").cells["energy"].interval.mean, abs=1e-6
    )
    assert value["pictures"] == 10
    assert found["left_out"] == {"faith": "metric faith needs the capture"}


def test_an_undefined_value_is_null_and_a_dash() -> None:
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    cell = Cell(interval=nothing, better=False, undefined=48, maps=48)
    board = six()
    rows = (Row(name="empty", kind="method", cells={**board.rows[0].cells, "iou": cell}),)
    board = dataclasses.replace(board, rows=rows)
    assert record(board)["rows"][0]["values"]["iou"]["mean"] is None
    (line,) = [line for line in printed(board).splitlines() if line.startswith("empty")]
    assert line.split()[5] == "-"
    assert "of 48 on scenes empty 48" in " ".join(printed(board).split())
