"""The demonstration with everything installed: what theory says must be on the leaderboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from camkit_core import LoadedModel, Registry, compare
from camkit_playground.demonstration import METHODS, TWINS
from camkit_playground.duo import batch, scenes
from camkit_playground.leaderboard import Leaderboard, leaderboard, record
from camkit_playground.leaderboard.hans import reason

METRICS = ["energy", "contrast", "gridpg", "iou", "pointing", "rankaccuracy"]
CONTROLS = ["random", "center", "sobel", "oracle"]
POOLED = ["gradcam", "hirescam", "xgradcam"]
BLIND = ["eigencam", "fem"]
FIGURES = slice(0, len(METRICS))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="module")
def cnn(registry: Registry) -> LoadedModel:
    return registry.load_model("demo:cnn")


@pytest.fixture(scope="module")
def board(registry: Registry, cnn: LoadedModel) -> Leaderboard:
    return leaderboard(registry, cnn, METHODS, count=24)


# -- theory --------------------------------------------------------------------------------------


def test_at_the_pooled_layer_three_methods_are_one(registry, cnn) -> None:
    images, _, labels = batch(scenes(range(8)))
    asked = [[int(row.nonzero()[position]) for row in labels] for position in (0, 1)]
    found = compare(cnn, images, POOLED, asked, registry=registry)
    for position in (0, 1):
        first, *others = (found[name, position].maps for name in POOLED)
        assert first.flatten(1).std(1).min() > 0.01  # not degenerate
        for other in others:
            torch.testing.assert_close(other, first, rtol=0, atol=1e-5)


def test_they_are_one_on_the_leaderboard_too(board) -> None:
    first, *others = (board.row(name) for name in POOLED)
    for name in METRICS:
        for other in others:
            assert other.cells[name].interval.mean == pytest.approx(
                first.cells[name].interval.mean, abs=1e-3
            )


@pytest.mark.parametrize("name", BLIND)
def test_methods_that_ignore_the_class_are_at_chance(board, name) -> None:
    contrast = board.row(name).cells["contrast"].interval
    assert contrast.low - 1e-6 <= 0.5 <= contrast.high + 1e-6
    assert board.row(name).cells["gridpg"].interval.mean == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("name", ["gradcam", "gradcampp", "layercam", "eigengradcam"])
def test_methods_that_see_the_class_are_above_chance(board, name) -> None:
    assert board.row(name).cells["contrast"].interval.low > 0.6
    assert board.row(name).cells["gridpg"].interval.low > 0.3
    assert board.row(name).cells["energy"].better


def test_the_oracle_is_at_one(board) -> None:
    for name in METRICS:
        cell = board.row("oracle", "control").cells[name]
        assert cell.interval.mean == pytest.approx(1, abs=1e-12)
        assert cell.undefined == 0


def test_noise_is_at_chance(board) -> None:
    _, masks, labels = batch(scenes(range(24)))
    share = float(masks.flatten(2).double().mean(2)[labels].mean())
    chance = {"energy": share, "pointing": share, "rankaccuracy": share}
    chance |= {"contrast": 0.5, "gridpg": 0.25}
    for name, expected in chance.items():
        found = board.row("random", "control").cells[name].interval
        error = (found.high - found.low) / (2 * 1.96)
        assert abs(found.mean - expected) <= 4 * error


def test_the_twin_looks_at_the_tag_and_the_clean_network_does_not(registry, cnn) -> None:
    clean, twin = (reason(registry, registry.load_model(spec)) for spec in TWINS)
    assert min(clean.answer, twin.answer) > 0.99
    assert twin.on_tag.mean > 4 * clean.on_tag.mean
    assert twin.on_tag.low > clean.on_tag.high
    assert clean.on_object.low > twin.on_object.high
    # and it is the truth: taking the tag away changes one answer and not the other
    assert (clean.no_tag > 0.9, twin.no_tag < 0.5) == (True, True)
    assert (clean.no_object < 0.1, twin.no_object > 0.9) == (True, True)


def test_the_transformer_is_judged_where_its_patches_are(registry) -> None:
    vit = leaderboard(registry, registry.load_model("demo:vit"), METHODS, count=16)
    assert vit.layers[0].startswith("blocks.")
    assert vit.row("gradcam").cells["contrast"].interval.low > 0.6
    for name in BLIND:
        assert vit.row(name).cells["contrast"].interval.mean == pytest.approx(0.5, abs=1e-6)
    assert vit.row("oracle", "control").cells["energy"].interval.mean == pytest.approx(1)


# -- the leaderboard -----------------------------------------------------------------------------


def test_everything_installed_is_on_it(board) -> None:
    assert list(board.metrics)[FIGURES] == METRICS
    assert [row.name for row in board.rows] == [*METHODS, *CONTROLS]
    assert all(cell.interval.count == 24 for row in board.rows for cell in row.cells.values())


def test_two_runs_agree_to_three_digits(board, registry, cnn) -> None:
    again = leaderboard(registry, cnn, METHODS, count=24)
    assert numbers(record(again)) == numbers(record(board))


def test_other_pictures_give_another_leaderboard(board, registry, cnn) -> None:
    other = leaderboard(registry, cnn, METHODS, count=24, seed=1)
    assert numbers(record(other)) != numbers(record(board))


def numbers(found) -> list[float]:
    return [
        round(value[part], 3)
        for row in found["rows"]
        for value in row["values"].values()
        for part in ("mean", "low", "high")
    ]


# -- the command ---------------------------------------------------------------------------------


def demo(out: Path) -> str:
    """Run `camkit demo` in a process of its own; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "camkit", "demo", "-o", str(out)],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_the_command_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    said = demo(tmp_path / "a")
    demo(tmp_path / "b")
    files = {
        path.relative_to(tmp_path / "a").as_posix(): path.read_bytes()
        for path in (tmp_path / "a").rglob("*.*")
    }
    assert {"grid.png", "reasons.png", "leaderboard.md", "leaderboard.json"} < set(files)
    for name, content in files.items():
        assert (tmp_path / "b" / name).read_bytes() == content
    assert "same picture, same answer, different reason" in said
    assert max(map(len, said.split("leaderboard.md")[0].splitlines())) < 120
    board = json.loads(files["leaderboard.json"])
    assert [row["name"] for row in board["rows"]] == [*METHODS, *CONTROLS]
