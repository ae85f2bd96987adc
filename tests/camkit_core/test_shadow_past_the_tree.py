"""A module that is called past the module tree is hooked in place, for one pass, and let go."""

from __future__ import annotations

import functools
import types

import pytest
import torch
from core_proof.checks import close, or_refused, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import Chain, images, of_class, split
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import CaptureError, Need, TensorRows, explain


class InList(Chain):
    """The layers are kept in a plain list too, and called from there."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [getattr(self, name) for name in self.order]

    def forward(self, x):
        for step in self.steps:
            x = self.act(step(x))
        return self.finish(x)


class InMethods(InList):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [step.__call__ for step in self.steps]


class InClosure(Chain):
    """A `forward` that closes over the original object."""

    def __init__(self) -> None:
        super().__init__()
        original = self
        self.forward = lambda x: Chain.forward(original, x)


class InPartial(Chain):
    """A wrapper like those of device placement: `partial(new_forward, module)`."""

    def __init__(self) -> None:
        super().__init__()
        self.old = Chain.forward
        self.forward = functools.update_wrapper(
            functools.partial(lambda module, x: module.old(module, x), self), Chain.forward
        )


class InMethodOfAnother(Chain):
    """`forward` is a method bound to an object that is no module."""

    def __init__(self) -> None:
        super().__init__()
        runner = types.SimpleNamespace(net=self)
        self.forward = types.MethodType(lambda r, x: Chain.forward(r.net, x), runner)


KINDS = [InList, InMethods, InClosure, InPartial, InMethodOfAnother]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layers", ["body", ["stem", "neck"]], ids=str)
def test_the_map_is_right_all_the_same_and_the_note_says_how(kind, layers):
    net, x = kind(), images(3)
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 2, layers, registry=registry())
    for layer in found.raw:
        activations, gradients = split(Chain(), x, layer, of_class(2))
        close(found.raw[layer], (activations * gradients).sum(1))
    same(found.output, Chain()(x).detach())
    if kind is InPartial:  # a partial kept on a module can be pointed at the copies
        assert found.provenance.notes == ()
        return
    assert any("past the module tree" in note for note in found.provenance.notes)
    assert found.provenance.forwards == 2


class Failing(InList):
    """Raises in the given call of `forward`."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.calls = []
        self.failing = call

    def finish(self, a):
        self.calls.append("forward")
        if len(self.calls) == self.failing:
            raise RuntimeError("the model gave up")
        return super().finish(a)


@pytest.mark.parametrize("call", [1, 2])
def test_no_hook_is_left_when_the_forward_raises(call):
    net, x = Failing(call), images()
    with unchanged(net, x), pytest.raises(RuntimeError, match="the model gave up"):
        explain(net, x, HiRes(), 1, "body", registry=registry())
    assert not net.body._forward_hooks
    wanted = explain(InList(), x, HiRes(), 1, "body", registry=registry())
    same(explain(net, x, HiRes(), 1, "body", registry=registry()).raw["body"], wanted.raw["body"])


def test_a_users_hook_on_that_layer_stays():
    net, told = InList(), []
    handle = net.body.register_forward_hook(lambda m, a, o: told.append(1))
    explain(net, images(), HiRes(), 1, "body", registry=registry())
    assert list(net.body._forward_hooks) == [handle.id]


class Normed(InList):
    """Statistics and dropout that training mode would change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6).double()
        self.drop = nn.Dropout(0.5)
        self.steps.append(nn.Sequential(self.norm, self.drop).__call__)
        self.eval()


@pytest.mark.parametrize("trained", ["all", "norm", "body", "drop"])
def test_training_mode_past_the_tree_is_refused_before_anything_changes(trained):
    net, x = Normed(), images()
    net.train() if trained == "all" else getattr(net, trained).train()
    with unchanged(net, x), pytest.raises(CaptureError, match=r"past the module tree.*eval\(\)"):
        explain(net, x, HiRes(), 1, "body", registry=registry())


def test_eval_mode_past_the_tree_works_with_statistics_in_the_model():
    net, x = Normed(), images()
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 1, "body", registry=registry())
    same(found.output, net(x).detach())


class Elsewhere(Chain):
    """Only what is not captured is called past the tree."""

    def __init__(self) -> None:
        super().__init__()
        self.others = [self.neck.__call__]

    def forward(self, x):
        x = self.act(self.body(self.act(self.stem(x))))
        return self.finish(self.act(self.others[0](x)))


def test_modules_past_the_tree_do_not_matter_where_they_are_not_captured():
    net, x = Elsewhere(), images()
    found = explain(net, x, HiRes(), 1, "body", registry=registry())
    assert found.provenance.notes == ()
    assert found.provenance.forwards == 1
    activations, gradients = split(Chain(), x, "body", of_class(1))
    close(found.raw["body"], (activations * gradients).sum(1))


@pytest.mark.parametrize("kind", [InList, InClosure], ids=lambda kind: kind.__name__)
def test_the_tail_past_the_tree_is_right_or_refused(kind):
    net, x, found = kind(), images(), []

    def look(capture):
        owner = torch.arange(2)
        found.append(capture.tail(TensorRows(capture.activations.flip(2), owner)))
        return capture.activations.sum(1)

    wanted = Chain().after("body", Chain().until("body", x).flip(2)).detach()[:, 1]
    with unchanged(net, x), or_refused(CaptureError, "body"):
        explain(net, x, spy(look, Need.ACTIVATIONS | Need.TAIL), 1, "body", registry=registry())
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


def test_a_layer_that_never_runs_is_refused_and_leaves_no_hook():
    class Spare(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Conv2d(3, 3, 1).double().eval()

    net, x = Spare(), images()
    with (
        unchanged(net, x),
        pytest.raises(
            CaptureError, match=r"layer 'spare' did not run for this input.*unused branch"
        ),
    ):
        explain(net, x, HiRes(), 1, ["body", "spare"], registry=registry())
