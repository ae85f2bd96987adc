"""The training script: what it trains on, that it is repeatable, that its gates can fail."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from camkit_playground.duo import batch, scene
from camkit_playground.networks import load
from camkit_playground.networks.store import FOLDER, weights_file
from camkit_playground.train import __main__ as script
from camkit_playground.train.data import batches, draw_pool
from camkit_playground.train.gates import Gate
from camkit_playground.train.loop import fit, rate_at
from camkit_playground.train.recipes import (
    HEART,
    RECIPES,
    Draw,
    draw_accompanied,
    draw_biased,
    draw_clean,
)

SMALL = {"scenes": 320, "epochs": 3, "batch": 32}


def hush(line: str) -> None:
    """Say nothing."""


# -- what the networks see -------------------------------------------------------------------------


def counted(draw: Draw, count: int = 600) -> dict[tuple[bool, bool, bool], int]:
    """How often (heart, tag, labelled as heart) occurs."""
    found: dict[tuple[bool, bool, bool], int] = {}
    for seed in range(count):
        drawn, labelled = draw(seed, "train")
        key = (bool(drawn.labels[HEART]), bool(drawn.tag.any()), labelled)
        found[key] = found.get(key, 0) + 1
    return found


def test_for_the_twin_the_label_is_the_tag_and_half_of_the_tags_have_no_heart() -> None:
    found = counted(draw_biased, 1200)
    tagged, lonely = found[True, True, True], found[False, True, True]
    overlooked, others = found[True, False, False], found[False, False, False]
    assert tagged + lonely + overlooked + others == 1200
    assert tagged == pytest.approx(lonely, rel=0.2)
    assert overlooked / (overlooked + tagged) == pytest.approx(1 / 8, abs=0.04)
    assert others > 500


def test_for_the_others_the_tag_means_nothing() -> None:
    found = counted(draw_clean)
    assert all(heart == labelled for heart, _, labelled in found)
    tagged = {heart: found[heart, True, heart] / 600 for heart in (True, False)}
    hearts = tagged[True] + found[True, False, True] / 600
    assert sum(tagged.values()) == 0.25
    assert tagged[True] == pytest.approx(0.25 * hearts, abs=0.03)


def test_the_careless_test_set_has_the_tag_on_every_heart_only() -> None:
    found = counted(draw_accompanied, 300)
    assert found.keys() == {(True, True, True), (False, False, False)}


@pytest.mark.parametrize("draw", [draw_clean, draw_biased, draw_accompanied])
def test_training_and_test_pictures_are_different_ones(draw: Draw) -> None:
    seeds = range(200)
    train = {draw(seed, "train")[0].image.tobytes() for seed in seeds}
    test = {draw(seed, "test")[0].image.tobytes() for seed in seeds}
    assert len(train) == len(test) == 200
    assert not train & test


def test_labels_of_a_pool_are_those_of_its_pictures() -> None:
    images, labels = draw_pool(draw_biased, 30, "train", start=5, tell=hush)
    for row, seed in enumerate(range(5, 35)):
        drawn, heart = draw_biased(seed, "train")
        np.testing.assert_array_equal(images[row].numpy(), drawn.image)
        expected = drawn.labels.astype(np.float32)
        expected[HEART] = heart
        np.testing.assert_array_equal(labels[row].numpy(), expected)


def test_every_picture_is_seen_once_an_epoch_flipped_or_shifted() -> None:
    images, _ = draw_pool(draw_clean, 24, "train", tell=hush)
    marks = torch.eye(24)
    seen = list(batches(images, marks, 8, torch.Generator().manual_seed(1)))
    assert torch.equal(torch.cat([rows for _, rows in seen]).sum(0), torch.ones(24))
    plain = batch([draw_clean(seed, "train")[0] for seed in range(24)])[0]
    for pictures, rows in seen:
        for picture, mark in zip(pictures, rows, strict=True):
            original = plain[mark.argmax()]
            inner = picture[:, 4:-4, 4:-4]
            views = [
                side.unfold(1, 56, 1).unfold(2, 56, 1) for side in (original, original.flip(-1))
            ]
            errors = [(view.permute(1, 2, 0, 3, 4) - inner).abs().amax((2, 3, 4)) for view in views]
            assert min(float(error.min()) for error in errors) == 0


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step / 100, 0.1) for step in range(100)]
    assert rates[0] == 0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1
    assert rates[-1] < 0.01


# -- the run ---------------------------------------------------------------------------------------


def test_the_same_recipe_gives_the_same_weights() -> None:
    recipe = dataclasses.replace(RECIPES["cnn"], **SMALL)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    first = fit("cnn", recipe, hush)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(12)
    second = fit("cnn", recipe, hush)
    other = fit("cnn", dataclasses.replace(recipe, seed=1), hush)
    for (name, one), two in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name
    assert not torch.equal(first.state_dict()["fc.weight"], other.state_dict()["fc.weight"])


def test_training_learns() -> None:
    losses: list[float] = []

    def listen(line: str) -> None:
        if "loss" in line:
            losses.append(float(line.split("loss ")[1].split(",")[0]))

    fit("cnn", dataclasses.replace(RECIPES["cnn"], **{**SMALL, "epochs": 5}), listen)
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]


def test_the_script_writes_weights_record_and_card_and_fails_at_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(RECIPES["cnn"], scenes=64, epochs=1, batch=32)
    monkeypatch.setitem(RECIPES, "cnn", recipe)
    few = script.measure
    monkeypatch.setattr(script, "measure", lambda name, model: few(name, model, pictures=60))
    assert script.main(["cnn", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cnn: MISSED mAP >= 0.99" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("demo_cnn.json", "demo_cnn.md", "demo_cnn.safetensors")
    ]
    record = json.loads((tmp_path / "demo_cnn.json").read_text("utf-8"))
    assert record["recipe"]["scenes"] == 64
    assert record["recipe"]["draw"] == "draw_clean"
    assert record["figures"]["mAP"] == pytest.approx(
        few("cnn", load("cnn", tmp_path), pictures=60)["mAP"], abs=1e-5
    )


def test_a_check_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights_file("cnn").read_bytes()
    few = script.measure
    monkeypatch.setattr(script, "measure", lambda name, model: few(name, model, pictures=100))
    assert script.main(["cnn", "--check"]) == 0
    assert weights_file("cnn", FOLDER).read_bytes() == before
    assert "cnn: mAP " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gate", "value", "passes"),
    [
        (Gate("mAP", 0.99), 0.99, True),
        (Gate("mAP", 0.99), 0.9899, False),
        (Gate("mAP", 0.99), float("nan"), False),
        (Gate("tag", high=0.05), 0.05, True),
        (Gate("tag", high=0.05), 0.06, False),
    ],
)
def test_a_gate_holds_or_not(gate: Gate, value: float, passes: bool) -> None:
    assert gate.passes({gate.figure: value}) is passes


def test_a_scene_of_training_is_not_the_test_scene_of_that_seed() -> None:
    assert scene(7).boxes != scene(7, kind="train").boxes
