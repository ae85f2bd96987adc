"""A call inside a call: in a target, a method, a module's forward, a hook, another thread."""

from __future__ import annotations

import threading

import pytest
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import Chain, gradcam, images, of_class, split
from core_proof.snapshot import unchanged

from camkit_core import CaptureError, Need, explain


def ask(net, x, layers="body", target=1, method="gradcam"):
    return explain(net, x, method, target, layers, registry=registry())


def wanted(x, layer="body", target=1):
    return gradcam(*split(Chain(), x, layer, of_class(target)))


@pytest.mark.parametrize("layer", ["body", "stem", "neck"])
def test_a_target_may_explain_the_same_model(layer):
    net, x, other, inner = Chain(), images(), images(seed=3), []

    def target(out):
        inner.append(ask(net, other, layer, target=2).raw[layer])
        return out[1]

    with unchanged(net, x):
        outer = ask(net, x, target=target)
    close(outer.raw["body"], wanted(x))
    assert inner
    for found in inner:
        close(found, wanted(other, layer, 2))


def test_a_method_may_explain_the_same_model_at_the_same_layer():
    net, x, inner = Chain(), images(), []

    def look(capture):
        before = capture.activations.clone()
        inner.append(ask(net, capture.inputs.flip(-1), target=3).raw["body"])
        same(capture.activations, before)
        return (capture.activations * capture.gradients).sum(1)

    with unchanged(net, x):
        outer = ask(net, x, method=spy(look, Need.ACTIVATIONS | Need.GRADIENTS))
    activations, gradients = split(Chain(), x, "body", of_class(1))
    close(outer.raw["body"], (activations * gradients).sum(1))
    close(inner[0], wanted(x.flip(-1), target=3))


class Curious(Chain):
    """Explains another model, or itself, in the middle of its own forward."""

    def __init__(self, other=None) -> None:
        super().__init__()
        self.others = [other]
        self.asked: list = []
        self.busy = [False]

    def act(self, z):
        if not self.busy[0]:
            self.busy[0] = True
            try:
                self.asked.append(ask(self.others[0] or self, images(seed=8), target=4).raw["body"])
            finally:
                self.busy[0] = False
        return super().act(z)


@pytest.mark.parametrize("other", [True, False], ids=["another model", "itself"])
@pytest.mark.parametrize("layer", ["stem", "body", "neck"])
def test_a_forward_may_explain_a_model(other, layer):
    net, x = Curious(Chain() if other else None), images()
    with unchanged(net, x):
        outer = ask(net, x, layer)
    close(outer.raw[layer], wanted(x, layer))
    assert len(net.asked) == 3
    for found in net.asked:
        close(found, wanted(images(seed=8), target=4))


def test_a_users_hook_may_explain_the_model_it_sits_on():
    net, x, found, busy = Chain(), images(), [], []

    def hook(module, args, output):
        if not busy:
            busy.append(1)
            found.append(ask(net, images(seed=5), target=0).raw["body"])
            busy.clear()

    net.stem.register_forward_hook(hook)
    outer = ask(net, x)
    close(outer.raw["body"], wanted(x))
    close(found[0], wanted(images(seed=5), target=0))


class Listed(Chain):
    """Called past the module tree, so that hooks are set on the model itself."""

    def __init__(self, inside=None) -> None:
        super().__init__()
        self.steps = [self.stem, self.body, self.neck]
        self.inside = [inside]

    def forward(self, x):
        for step in self.steps:
            x = self.act(step(x))
            if self.inside[0]:
                self.inside[0](self)
        return self.finish(x)


@pytest.mark.parametrize("layer", ["stem", "body", "neck"])
def test_hooks_on_the_model_itself_hear_their_own_call_only(layer):
    found = []

    def explain_again(_):
        call, net.inside[0] = net.inside[0], None
        try:
            found.append(ask(net, images(seed=6), target=2).raw["body"])
        finally:
            net.inside[0] = call

    net, x = Listed(explain_again), images()
    with unchanged(net, x):
        outer = ask(net, x, layer)
    close(outer.raw[layer], wanted(x, layer))
    assert found
    for inner in found:
        close(inner, wanted(images(seed=6), target=2))


def test_a_forward_inside_a_forward_is_another_call_of_the_layer():
    """It cannot be told from a module that is used again, so the call must be named."""
    x, other = images(), images(seed=9)

    def run_plain(net):
        call, net.inside[0] = net.inside[0], None
        try:
            net(other)
        finally:
            net.inside[0] = call

    with pytest.raises(CaptureError, match=r"'body' ran 4 times.*'body#0' to 'body#3'"):
        ask(Listed(run_plain), x)


def test_a_forward_in_another_thread_is_not_captured():
    x, other = images(), images(seed=9)

    def run_elsewhere(_):
        thread = threading.Thread(target=Chain.forward, args=(net, other))
        thread.start()
        thread.join()

    net = Listed(run_elsewhere)
    close(ask(net, x, method=HiRes()).raw["body"], hires(x))


def hires(x):
    activations, gradients = split(Chain(), x, "body", of_class(1))
    return (activations * gradients).sum(1)
