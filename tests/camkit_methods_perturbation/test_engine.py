"""What methods ask of the engine: how many rows, in which chunks, and no image of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from perturbation_proof.checks import (
    assert_different,
    assert_equal,
    counted,
    method_class,
    raw,
)
from perturbation_proof.family import EVERY, EVERYTHING, SPECS
from perturbation_proof.networks import CHANNELS, DeepNet, WillingNet, images
from torch import Tensor

from camkit_core import Claim, explain
from camkit_methods_perturbation import rise
from camkit_methods_perturbation.rows import Changes

CLASSES = [2, 0, 3]
POSITIONS = 4 * 5


def net() -> DeepNet:
    """No weight of any method is cut off, and nothing is affine."""
    return WillingNet(seed=3)


# --- rows ------------------------------------------------------------------------------------


def test_rows_are_built_for_the_slice_that_is_asked_for() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def build(owner: Tensor, change: Tensor) -> Tensor:
        asked.append((owner.tolist(), change.tolist()))
        return torch.stack([owner, change], 1)

    rows = Changes(3, 4, build, torch.device("cpu"))
    assert len(rows) == 12
    assert rows.owner.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert not asked
    assert rows[2:6].tolist() == [[0, 2], [0, 3], [1, 0], [1, 1]]
    assert asked == [([0, 0, 1, 1], [2, 3, 0, 1])]
    assert rows[10:20].tolist() == [[2, 2], [2, 3]]


# Those run all images at once, unchanged or as one mixture.
WITHOUT_ROWS = ("opticam", "polygradcam", "liftcam")


@pytest.mark.parametrize("name", [n for n in EVERYTHING if n not in WITHOUT_ROWS])
def test_no_more_rows_exist_than_a_chunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither all masked images nor all changed activations are ever in memory."""
    built: list[int] = []
    plain = Changes.__getitem__

    def spy(self: Changes, rows: slice) -> Tensor:
        found = plain(self, rows)
        built.append(len(found))
        return found

    monkeypatch.setattr(Changes, "__getitem__", spy)
    with counted() as asked:
        raw(net(), images(3), EVERYTHING[name], CLASSES, batch_size=4)
    # The engine may look at a row twice, to check itself.
    assert sum(built) >= sum(asked.values())
    assert max(built) <= 4


def test_masks_of_rise_are_made_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = rise.RandomMasks.__call__

    def spy(self: rise.RandomMasks, numbers: Tensor) -> Tensor:
        made.append(len(numbers))
        return plain(self, numbers)

    monkeypatch.setattr(rise.RandomMasks, "__call__", spy)
    raw(net(), images(2), "rise:masks=300,grid=3", [2, 0], batch_size=50)
    assert sum(made) >= 900
    assert max(made) <= 64


@EVERY
@pytest.mark.parametrize("size", [1, 7])
def test_the_size_of_the_chunks_does_not_matter(name: str, size: int) -> None:
    x = images(3)
    whole = raw(net(), x, EVERYTHING[name], CLASSES, batch_size=10_000)
    assert_equal(raw(net(), x, EVERYTHING[name], CLASSES, batch_size=size), whole, 1e-10)


# --- what it costs ---------------------------------------------------------------------------

K, N = CHANNELS, 2
ROWS: dict[str, tuple[int, int]] = {  # of masked images, of changed activations, for N images
    "scorecam": (N * K, 0),
    "scorecam:normalize=relu": (N * (K + 1), 0),
    "scorecam:variant=authors": (N * K, 0),
    "gscorecam": (N * K, 0),
    "gscorecam:top=2": (N * 2, 0),
    "sscam": (N * K * 35, 0),
    "iscam": (N * K * 10, 0),
    "groupcam": (N * (K + 1), 0),
    "groupcam:groups=2": (N * 3, 0),
    "clustercam": (N * 3, 0),  # the square root of 6, rounded up
    "clustercam:groups=2": (N * 2, 0),
    "cosinecam": (N * 4, 0),
    "polycam": (N * K, 0),
    "polycam:variant=minus": (N * K, 0),
    "polycam:variant=both": (N * 2 * K, 0),
    "polygradcam": (0, 0),
    "opticam:steps=7": (N * 7, 0),
    "rise:masks=30": (N * 30, 0),
    "occlusion:window=4,stride=2": (N * 3 * 4, 0),
    "ablationcam": (0, N * K),
    "ablationcam:ratio=0.5": (0, N * 3),
    "reciprocam": (0, N * POSITIONS),
    "vitreciprocam": (0, N * POSITIONS),
    "channelshapley": (0, N * 2**K),
    "channelshapley:exact=0,orders=4": (0, N * (4 * (K - 1) + 1)),
    "lime:samples=20,superpixels=4": (N * 20, 0),
}


@pytest.mark.parametrize("spec", ROWS)
def test_number_of_runs(spec: str) -> None:
    with counted() as rows:
        raw(net(), images(N), spec, [2, 0])
    assert (rows["scores"], rows["tail"]) == ROWS[spec]


def test_occlusion_takes_the_runs_of_its_card_on_a_usual_photo() -> None:
    """225 windows of an eighth, half overlapping."""
    with counted() as rows:
        raw(net(), images(1, size=(64, 96)), "occlusion", 2)
    assert rows["scores"] == 225
    assert method_class("occlusion").runs == "1F + 225 F"


@pytest.mark.parametrize("spec", ["ablationcam", "reciprocam", "channelshapley", "liftcam"])
def test_a_certified_score_takes_no_rows(spec: str) -> None:
    from perturbation_proof.networks import GapNet

    with counted() as rows:
        raw(GapNet(seed=1), images(N), spec, [2, 0])
    assert rows == {"scores": 0, "tail": 0}


# --- one image apart from another ------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
def test_a_batch_is_its_images_one_by_one(name: str, dims: int) -> None:
    model, x = WillingNet(dims, seed=3), images(3, dims)
    together = raw(model, x, EVERYTHING[name], CLASSES)
    alone = [raw(model, x[i : i + 1], EVERYTHING[name], c) for i, c in enumerate(CLASSES)]
    assert_equal(together, torch.cat(alone), 1e-9)


@EVERY
def test_order_and_copies_in_the_batch(name: str) -> None:
    x, order = images(3), [2, 0, 1, 2]
    classes = [CLASSES[i] for i in order]
    there = raw(net(), x, EVERYTHING[name], CLASSES)[order]
    assert_equal(raw(net(), x[order], EVERYTHING[name], classes), there, 1e-9)


@EVERY
def test_seeds(name: str) -> None:
    """Equal seeds give equal maps; another seed gives another map unless the method says no."""
    x, spec = images(2), EVERYTHING[name]
    if name == "channelshapley":
        spec = "channelshapley:exact=0,orders=2"
    first, again = (raw(net(), x, spec, [2, 0], seed=1) for _ in range(2))
    assert torch.equal(first, again)
    other = raw(net(), x, spec, [2, 0], seed=2)
    if Claim.DETERMINISTIC in method_class(name).claims:
        assert torch.equal(first, other)
    elif name not in ("clustercam", "cosinecam", "kernelshap"):
        # Clear clusters are found from any seed, and few superpixels are enumerated.
        assert_different(other, first, 1e-6)


@EVERY
def test_a_second_call_remembers_nothing(name: str) -> None:
    model, x = net(), images(2)
    fresh = raw(net(), x, EVERYTHING[name], [2, 0])
    raw(model, images(2, seed=5), EVERYTHING[name], [1, 1])
    assert torch.equal(raw(model, x, EVERYTHING[name], [2, 0]), fresh)


@EVERY
def test_the_global_generator_is_not_used(name: str) -> None:
    model, before = net(), torch.get_rng_state()
    raw(model, images(2), EVERYTHING[name], [2, 0])
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    raw(model, images(2), EVERYTHING[name], [2, 0])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@EVERY
def test_single_precision_is_close_to_double(name: str) -> None:
    model, x = net(), images(2)
    exact = raw(model, x, EVERYTHING[name], [2, 0])
    rough = raw(model.float(), x.float(), EVERYTHING[name], [2, 0])
    assert rough.dtype == torch.float32
    assert_equal(rough, exact, {"cosinecam": 0.03, "opticam": 0.03}.get(name, 2e-3))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@EVERY
def test_callers_without_gradients(name: str, mode: Any) -> None:
    model, x = net(), images(2)
    expected = raw(model, x, EVERYTHING[name], [2, 0])
    with mode():
        assert_equal(raw(model, x, EVERYTHING[name], [2, 0]), expected, 1e-10)


def test_two_layers_give_two_maps_of_single_layer_methods() -> None:
    from perturbation_proof.networks import TwoLayers

    model, x = TwoLayers(seed=9), images(2)
    for name in SPECS:
        if name in ("rise", "occlusion", "polycam", "polygradcam"):
            continue
        explanation = explain(
            model, x, method=SPECS[name], target=[2, 0], layers=["features", "deep"]
        )
        for layer, found in explanation.raw.items():
            expected = raw(model, x, SPECS[name], [2, 0], layer=layer)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
