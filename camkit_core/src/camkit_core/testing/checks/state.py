"""After a call, also one that raised, model, input and process are bit for bit as before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.testing.fixtures import Bomb, Boom
from camkit_core.testing.judge import ensure, fail
from camkit_core.testing.networks import DropoutNet, Net, images
from camkit_core.testing.state import unchanged
from camkit_core.testing.subject import Subject, blind, both, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")


def _prepared(subject: Subject) -> Net:
    """A model with hooks, gradients and flags of its own, worth protecting."""
    own = subject.needs_head or subject.attends
    net = subject.net() if own else DropoutNet(seed=6)
    for index, parameter in enumerate(net.parameters()):
        if index % 2 == 0:
            parameter.grad = torch.full_like(parameter, 0.5)
        parameter.requires_grad_(index % 3 != 0)
    net.register_forward_hook(lambda m, a, o: None)
    net.features[1].train()
    return net


@SUITE.check(
    "parameters, .grad, requires_grad, buffers, training flags, hooks, modules, modes: untouched"
)
def model_untouched(subject: Subject) -> None:
    """In evaluation and in training mode."""
    for train in (False, True):
        net, x = _prepared(subject), images(2)
        if train:
            net.train()
        with unchanged(net, x, "a call"):
            subject.raw(net, x)


@SUITE.check("the images are untouched, and the map owns its memory")
def input_untouched(subject: Subject) -> None:
    """Writing to the map changes neither the images nor the next map."""
    net, x = subject.net(), images(2)
    kept = x.clone()
    first = subject.raw(net, x)
    before = first.clone()
    ensure(torch.equal(x, kept), "the images were changed by the call")
    first.fill_(0.0)
    ensure(torch.equal(x, kept), "the map shares memory with the images: return a new tensor")
    second = subject.raw(net, x)
    ensure(torch.equal(second, before), "writing to one map changed the next: memory is shared")


class _Explosive(nn.Module):
    """Raises behind the layer."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.features, self.net = net.features, net

    def forward(self, x: Tensor) -> Any:
        """Never returns."""
        self.net.tail(self.features(x))
        raise Boom


@SUITE.check("an exception in the model leaves everything as it was, and reaches the caller")
def untouched_after_model_error(subject: Subject) -> None:
    """Raised behind the layer."""
    net, x = _Explosive(_prepared(subject)), images(2)
    with unchanged(net, x, "a call whose model raised"):
        _must_boom(lambda: subject.raw(net, x))


def _classes_only(subject: Subject) -> str:
    foreign = subject.method is None and subject.needs_head
    return "it explains classes only, and none of them can raise" if foreign else ""


@SUITE.check(
    "an exception in the target leaves everything as it was, and reaches the caller",
    unless=both(blind, _classes_only),
)
def untouched_after_target_error(subject: Subject) -> None:
    """Raised when bound or when it scores."""
    net, x = _prepared(subject), images(2)

    def bomb(output: Tensor) -> Tensor:
        raise Boom

    targets: list[Any] = [bomb] if subject.method is None else [bomb, Bomb(0), Bomb(1)]
    if subject.needs_head:
        targets = [Bomb(0)]
    for target in targets:
        with unchanged(net, x, "a call whose target raised"):
            _must_boom(lambda target=target: subject.raw(net, x, target))


@SUITE.check("an exception in the method leaves everything as it was", unless=own_engine)
def untouched_after_method_error(subject: Subject) -> None:
    """Raised after the method did its work."""
    from camkit_core.testing.fixtures import Watch

    class Explode(Watch):
        def __call__(self, capture: Any, /) -> Tensor:
            super().__call__(capture)
            raise Boom

    net, x = _prepared(subject), images(2)
    bad = Subject(subject.name, subject.needs, subject.claims, method=Explode(subject.method))
    with unchanged(net, x, "a call whose method raised"):
        _must_boom(lambda: bad.raw(net, x))


def _must_boom(call: Any) -> None:
    try:
        call()
    except Boom:
        return
    fail("the exception was swallowed: nothing reached the caller")
