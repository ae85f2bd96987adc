"""The shipped weights on pictures they were not trained on."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from camkit_playground.duo import batch, scenes
from camkit_playground.networks import NAMES, load
from camkit_playground.networks.store import FOLDER
from camkit_playground.train.gates import GATES, mean_average_precision, measure
from camkit_playground.train.recipes import HEART


def slow_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean over positives of the share of positives among everything scored as high."""
    total = []
    for k in range(scores.shape[1]):
        found = []
        for i in range(len(scores)):
            if labels[i, k]:
                above = [j for j in range(len(scores)) if scores[j, k] >= scores[i, k]]
                found.append(sum(bool(labels[j, k]) for j in above) / len(above))
        total.append(sum(found) / len(found))
    return sum(total) / len(total)


def test_average_precision_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 3, generator=generator)
    labels = torch.rand(40, 3, generator=generator) < 0.3
    assert labels.any(0).all()
    expected = slow_average_precision(scores, labels)
    assert 0.1 < expected < 0.9
    assert mean_average_precision(scores, labels) == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    scores = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    labels = torch.tensor([[True], [False], [True], [False]])
    assert mean_average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_pass_their_gates(name: str) -> None:
    # Seeds that the recorded figures do not use either.
    figures = measure(name, load(name), pictures=400, start=500_000)
    for gate in GATES[name]:
        assert gate.passes(figures), f"{name}: {gate}, found {figures[gate.figure]}"


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_figures_are_those_of_the_shipped_weights(name: str) -> None:
    record = json.loads((FOLDER / f"demo_{name}.json").read_text("utf-8"))
    assert record["gates"] == [str(gate) for gate in GATES[name]]
    assert all(gate.passes(record["figures"]) for gate in GATES[name])
    figures = measure(name, load(name), pictures=300)
    for key, value in figures.items():
        assert value == pytest.approx(record["figures"][key], abs=0.05), key


def test_gates_are_as_high_as_promised() -> None:
    lows = {name: {gate.figure: gate.low for gate in gates} for name, gates in GATES.items()}
    assert lows["cnn"]["mAP"] == lows["hans"]["mAP"] == 0.99
    assert lows["vit"]["mAP"] == 0.95


def test_an_untrained_network_fails() -> None:
    model = load("cnn")
    torch.nn.init.zeros_(model.fc.weight)  # type: ignore[union-attr,arg-type]
    figures = measure("cnn", model, pictures=100)
    assert not GATES["cnn"][0].passes(figures)


def test_same_picture_same_answer_until_the_tag_is_gone() -> None:
    """The pair of the demo: both say heart, the twin only as long as the tag is there."""
    honest, twin = load("cnn"), load("hans")
    hearts = [
        ["gold heart", "red star"],
        ["blue ring", "gold heart"],
        ["gold heart", "green cross"],
    ]
    answers = {}
    for tag in (True, False):
        images = batch(
            [s for seed in range(30) for s in scenes([seed], classes=hearts[seed % 3], tag=tag)]
        )[0]
        with torch.inference_mode():
            answers[tag] = [model(images)[:, HEART].sigmoid() for model in (honest, twin)]
    assert answers[True][0].min() > 0.9
    assert answers[True][1].min() > 0.9
    assert (answers[False][0] > 0.5).float().mean() > 0.95
    assert (answers[False][1] < 0.5).float().mean() > 0.95
