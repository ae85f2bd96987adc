"""After a call, also one that raised, everything is bit for bit as before."""

from __future__ import annotations

import contextlib

import pytest
import torch
from core_proof.methods import METHODS, registry, spy
from core_proof.networks import Chain, images
from core_proof.snapshot import differences, snapshot, unchanged
from core_proof.zoo import ZOO, build
from torch import nn

from camkit_core import Explainer, Need, TensorRows, compare, explain, probe_layers

EVERYTHING = (
    Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER | Need.INPUT_GRADIENTS
    | Need.SCORES | Need.TAIL | Need.RECAPTURE
)  # fmt: skip


def everything(capture):
    """Uses all the engine has."""
    a, owner = capture.activations, torch.arange(len(capture.inputs))
    found = a * capture.gradients + capture.hvp(a)
    capture.tail(TensorRows(a * 0.5, owner))
    capture.scores(TensorRows(capture.inputs * 0.5, owner))
    again = capture.at(capture.inputs * 0.5)
    return (found + again.gradients).sum(1) + 0 * capture.input_gradients.sum()


def prepared(kind):
    """A model with hooks, gradients and flags of its own, worth protecting."""
    net = build(kind)
    for index, parameter in enumerate(net.parameters()):
        if index % 2 == 0:
            parameter.grad = torch.full_like(parameter, 0.5)
        parameter.requires_grad_(index % 3 != 0)
    net.register_forward_hook(lambda m, a, o: None)
    next(iter(net.children())).register_forward_pre_hook(lambda m, a: None)
    return net


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "kind", [k for k in ZOO if k.__name__ != "Writing"], ids=lambda k: k.__name__
)
def test_a_call_that_uses_everything_changes_nothing(kind, train):
    net, x = prepared(kind).train(train), images(2)
    with unchanged(net, x):
        explain(net, x, spy(everything, EVERYTHING), 1, "layer", registry=registry())


def test_the_snapshot_notices_what_it_should_notice():
    changes = {
        "parameter": lambda n, x: n.layer.weight.data.add_(1e-12),
        "gradient": lambda n, x: n.layer.weight.grad.mul_(2),
        "flag": lambda n, x: n.late.train(),
        "frozen": lambda n, x: n.layer.bias.requires_grad_(not n.layer.bias.requires_grad),
        "hook": lambda n, x: n.late.register_forward_hook(print),
        "child": lambda n, x: setattr(n, "late", nn.Conv2d(6, 6, 3, padding=1)),
        "attribute": lambda n, x: setattr(n.late, "seen", 1),
        "input": lambda n, x: x.mul_(1.0),
        "random": lambda n, x: torch.rand(1),
        "mode": lambda n, x: torch.set_grad_enabled(False),
        "written and restored": lambda n, x: n.layer.weight.detach().mul_(1.0),
    }
    state = torch.random.get_rng_state()
    for what, change in changes.items():
        net, x = prepared(ZOO[0]), images(2)
        before = snapshot(net, x)
        try:
            change(net, x)
            assert differences(before, snapshot(net, x)), what
        finally:
            torch.set_grad_enabled(True)
    torch.random.set_rng_state(state)
    net, x = prepared(ZOO[0]), images(2)
    assert differences(snapshot(net, x), snapshot(net, x)) == []


class Boom(Exception):
    """Raised on purpose."""


class Explosive(Chain):
    """Raises in the given part of the given forward."""

    def __init__(self, part: str, at: int = 1) -> None:
        super().__init__()
        self.part, self.at, self.told = part, at, []

    def act(self, z):
        return self.maybe("act", super().act(z))

    def finish(self, a):
        return self.maybe("finish", super().finish(a))

    def maybe(self, part, value):
        if part == self.part:
            self.told.append(part)
            if len(self.told) >= self.at:
                raise Boom(part)
        return value


@pytest.mark.parametrize(("part", "at"), [("act", 1), ("act", 2), ("finish", 1), ("finish", 2)])
@pytest.mark.parametrize("train", [False, True])
def test_an_exception_in_the_model_changes_nothing(part, at, train):
    net, x = Explosive(part, at).train(train), images()
    with unchanged(net, x), pytest.raises(Boom):
        explain(net, x, spy(everything, EVERYTHING), 1, "body", registry=registry())


class Target:
    """Raises when bound, or when it scores for the given time."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def bind(self, output, run):
        if self.at == 0:
            raise Boom
        return self

    def describe(self):
        from camkit_core import TargetInfo

        return TargetInfo(kind="test", label="bomb")

    def __call__(self, output, owner):
        self.calls += 1
        if self.calls == self.at:
            raise Boom
        return output[:, 0]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode])
def test_an_exception_in_the_target_changes_nothing(at, mode):
    net, x = Chain().train(), images()
    with mode(), unchanged(net, x), pytest.raises(Boom):
        explain(net, x, spy(everything, EVERYTHING), Target(at), "body", registry=registry())


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt, MemoryError])
def test_an_exception_in_the_method_changes_nothing(error):
    def bomb(capture):
        everything(capture)
        raise error

    net, x = Chain().train(), images()
    with unchanged(net, x), pytest.raises(error):
        explain(net, x, spy(bomb, EVERYTHING), 1, "body", registry=registry())


def test_an_exception_in_progress_or_post_changes_nothing():
    def bomb(*args):
        raise Boom

    net, x = Chain(), images()
    for words in ({"progress": bomb}, {"post": [bomb]}):
        with unchanged(net, x), pytest.raises(Boom):
            explain(net, x, target=1, layers="body", registry=registry(), **words)


@pytest.mark.parametrize("train", [False, True])
def test_comparing_and_probing_change_nothing(train):
    net, x, reg = Chain().train(train), images(), registry()
    methods = [method() for method in METHODS]
    with unchanged(net, x):
        compare(net, x, methods, [0, 1, "pred"], ["stem", "neck"], registry=reg)
    with unchanged(net, x):
        probe_layers(net, x, registry=reg)
    with unchanged(net, x):
        explain(net, x, registry=reg)


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict"])
def test_the_containers_of_the_inputs_are_not_changed(kind):
    class Three(Chain):
        def forward(self, image, mask=None, options=None):
            return super().forward(image * (1 if mask is None else mask))

    net, x, mask, options = Three(), images(), images(channels=1, seed=2), {"a": [1]}
    given = {
        "tensor": x,
        "tuple": (x, mask, options),
        "dict": {"image": x, "mask": mask, "options": options},
    }[kind]
    with unchanged(net, (x, mask)):
        explain(net, given, "saliency", 1, registry=registry())
    assert options == {"a": [1]}


def test_an_explainer_leaves_the_model_alone_between_its_calls():
    net, x = prepared(ZOO[0]), images()
    with unchanged(net, x):
        explainer = Explainer(net, "layer", registry=registry())
        for _ in range(3):
            explainer.explain(x, target=1)
            explainer.compare(x, ["gradcam", "mean"], [0, 1])


def test_seeded_methods_leave_the_global_generator_alone_and_repeat():
    def noise(capture):
        drawn = torch.rand(capture.activations.shape, generator=capture.generator)
        return (capture.activations * drawn).sum(1)

    net, x = Chain(), images()
    with unchanged(net, x):
        one, two, other = (
            explain(net, x, spy(noise, Need.ACTIVATIONS), 0, "body", seed=s, registry=registry())
            for s in (3, 3, 4)
        )
    assert torch.equal(one.maps, two.maps)
    assert not torch.equal(one.maps, other.maps)
    assert (one.provenance.seed, other.provenance.seed) == (3, 4)
