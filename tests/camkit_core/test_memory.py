"""Hundreds of calls leave no tensor behind, and a model that nobody holds is gone."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import Chain, images
from torch import nn

from camkit_core import Explainer, Need, TensorRows, compare, explain, probe_layers

EVERYTHING = (
    Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER | Need.INPUT_GRADIENTS
    | Need.SCORES | Need.TAIL | Need.RECAPTURE
)  # fmt: skip


def everything(capture):
    a, owner = capture.activations, torch.arange(len(capture.inputs))
    found = a * capture.gradients + capture.hvp(a)
    capture.tail(TensorRows(a * 0.5, owner))
    capture.scores(TensorRows(capture.inputs * 0.5, owner))
    return (found + capture.at(capture.inputs * 0.5).gradients).sum(1)


def live() -> tuple[int, int]:
    """Tensors and modules alive."""
    gc.collect()
    things = gc.get_objects()
    kinds = [type(thing) for thing in things]
    return (
        sum(issubclass(kind, torch.Tensor) for kind in kinds),
        sum(issubclass(kind, nn.Module) for kind in kinds),
    )


class Listed(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [getattr(self, name) for name in self.order]

    def forward(self, x):
        for step in self.steps:
            x = self.act(step(x))
        return self.finish(x)


REG = registry()
CALLS = {
    "explain": lambda net, x: explain(net, x, "hires", 1, "body", registry=REG),
    "default layer": lambda net, x: explain(net, x, "hires", 1, registry=REG),
    "compare": lambda net, x: compare(
        net, x, ["gradcam", "saliency"], [0, 1], "body", registry=REG
    ),
    "everything": lambda net, x: explain(
        net, x, spy(everything, EVERYTHING), 1, "body", registry=REG
    ),
    "probe": lambda net, x: probe_layers(net, x, registry=REG),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("train", [False, True])
def test_what_is_alive_does_not_grow_with_the_calls(call, train):
    net, x = Chain().train(train), images()
    for _ in range(2):
        CALLS[call](net, x)
    before = live()
    for _ in range(20 if call in ("everything", "probe") else 60):
        CALLS[call](net, x)
    assert live() == before


@pytest.mark.parametrize("kind", [Chain, Listed])
def test_two_hundred_calls_of_an_explainer_leave_nothing(kind):
    net, x = kind(), images()
    explainer = Explainer(net, "body", registry=REG)
    explainer.explain(x, HiRes(), 1)
    before = live()
    for index in range(220):
        explainer.explain(x, HiRes(), index % 5)
    assert live() == before


@pytest.mark.parametrize("call", CALLS)
def test_no_memory_waits_for_the_garbage_collector(call):
    net, x = Chain(), images()
    CALLS[call](net, x)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        CALLS[call](net, x)
        gc.collect()
        late = [thing for thing in gc.garbage if issubclass(type(thing), torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()
    assert not late, "a cycle of references keeps tensors of the call alive"


class Boom(Exception):
    pass


def test_calls_that_raise_leave_nothing():
    def bomb(capture):
        everything(capture)
        raise Boom

    def call():
        with pytest.raises(Boom):
            explain(net, x, spy(bomb, EVERYTHING), 1, "body", registry=REG)

    net, x = Chain(), images()
    call()
    before = live()
    for _ in range(20):
        call()
    tensors, modules = live()
    assert (tensors, modules) == before


@pytest.mark.parametrize("call", CALLS)
def test_the_model_dies_when_its_owner_lets_go(call):
    net, x = Chain(), images()
    CALLS[call](net, x)
    watch = weakref.ref(net), weakref.ref(net.body), weakref.ref(net.body.weight)
    del net
    gc.collect()
    assert [one() for one in watch] == [None, None, None]


def test_an_explanation_does_not_hold_the_model_or_the_graph():
    net, x = Chain(), images()
    found = explain(net, x, registry=REG)
    watch = weakref.ref(net)
    del net
    gc.collect()
    assert watch() is None
    held = [found.maps, found.score, found.output, found.inputs, *found.raw.values()]
    assert all(tensor.grad_fn is None for tensor in held)


def test_a_result_owns_its_memory():
    net, x = Chain(), images()
    found = explain(net, x, "mean", 1, "body", registry=REG)
    maps, raw, score = found.maps.clone(), found.raw["body"].clone(), found.score.clone()
    explain(net, x.flip(0), "mean", 1, "body", registry=REG)
    with torch.no_grad():
        net.body.weight.zero_()
    assert torch.equal(found.maps, maps)
    assert torch.equal(found.raw["body"], raw)
    assert torch.equal(found.score, score)


def test_writing_into_one_map_of_a_comparison_leaves_the_others():
    found = compare(Chain(), images(), ["gradcam", "hires"], [0, 1], "body", registry=REG)
    explanations = list(found.values())
    before = [one.maps.clone() for one in explanations]
    explanations[0].maps.fill_(7)
    for one, kept in zip(explanations[1:], before[1:], strict=True):
        assert torch.equal(one.maps, kept)
    assert torch.equal(explanations[0].raw["body"], found[("gradcam", 0)].raw["body"])
