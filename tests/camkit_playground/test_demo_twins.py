"""Same answer, different reason: the figures behind the pair, counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from camkit_core import LoadedModel, Registry, UnknownNameError, explain, mean_interval
from camkit_playground.duo import batch, class_index, scene
from camkit_playground.leaderboard.hans import OBJECT, Reason, probability, reason

sys.path.insert(0, str(Path(__file__).parent))
from playground_proof import registry_of

COUNT = 6
HEART = class_index(OBJECT)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of()


@pytest.fixture(scope="module", params=["demo:cnn", "demo:hans"])
def loaded(request: pytest.FixtureRequest, registry: Registry) -> LoadedModel:
    return registry.load_model(request.param)


@pytest.fixture(scope="module")
def found(registry: Registry, loaded: LoadedModel) -> Reason:
    return reason(registry, loaded, count=COUNT)


def drawn(seed: int, **options):
    return scene(seed, classes=[OBJECT, "green square"], **options)


def test_answers_are_those_to_pictures_that_differ_in_one_thing(loaded, found) -> None:
    answers: dict[str, list[float]] = {"answer": [], "no_tag": [], "no_object": []}
    for seed in range(COUNT):
        for name, options in (
            ("answer", {"tag": True}),
            ("no_tag", {}),
            ("no_object", {"tag": True, "without": [OBJECT]}),
        ):
            images, _, labels = batch([drawn(seed, **options)])
            assert bool(labels[0, HEART]) is (name != "no_object")
            with torch.no_grad():
                answers[name].append(float(loaded.model(images)[0, HEART].sigmoid()))
    for name, values in answers.items():
        assert getattr(found, name) == pytest.approx(sum(values) / COUNT, abs=1e-5)


def test_shares_are_those_of_single_maps(registry, loaded, found) -> None:
    on_object, on_tag = [], []
    for seed in range(COUNT):
        one = drawn(seed, tag=True)
        images, masks, _ = batch([one])
        map_ = explain(loaded, images, "gradcam", HEART, registry=registry).maps[0].double()
        on_object.append(float(map_[masks[0, HEART]].sum() / map_.sum()))
        on_tag.append(float(map_[torch.from_numpy(one.tag)].sum() / map_.sum()))
    for share, values in ((found.on_object, on_object), (found.on_tag, on_tag)):
        expected = mean_interval(torch.tensor(values))
        assert (share.mean, share.low, share.high, share.count) == pytest.approx(
            (expected.mean, expected.low, expected.high, COUNT), abs=1e-5
        )


def test_the_same_seed_gives_the_same_figures(registry, loaded, found) -> None:
    assert reason(registry, loaded, count=COUNT) == found
    assert reason(registry, loaded, count=COUNT, seed=1) != found


def test_probabilities_are_per_class(loaded) -> None:
    images, _, _ = batch([drawn(0), drawn(1)])
    every = loaded.model(images).detach().sigmoid()
    assert probability(loaded, images, 3).tolist() == pytest.approx(every[:, 3].tolist(), abs=1e-6)
    mixed = probability(loaded, images, torch.tensor([HEART, 2]))
    assert mixed.tolist() == pytest.approx([float(every[0, HEART]), float(every[1, 2])], abs=1e-6)


def test_without_the_metric_it_says_so(loaded) -> None:
    with pytest.raises(UnknownNameError, match="no metric is called 'energy'"):
        reason(registry_of(without=("metric",)), loaded, count=1)
