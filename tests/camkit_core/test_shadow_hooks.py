"""A user's own hooks run once per forward, see what they always see, and stay."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry
from core_proof.networks import Chain, images, of_class, split
from torch import nn

from camkit_core import explain


def ask(net, x, layers="body", method="hires"):
    return explain(net, x, method, 1, layers, registry=registry())


PLACES = ["", "stem", "body", "neck", "head"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layers", ["body", "stem", ["stem", "neck"]], ids=str)
def test_every_kind_of_hook_runs_exactly_once(place, layers):
    net, told = Chain(), []
    module = net.get_submodule(place)
    module.register_forward_pre_hook(lambda m, a: told.append("pre"))
    module.register_forward_pre_hook(
        lambda m, a, k: told.append("pre with kwargs"), with_kwargs=True
    )
    module.register_forward_hook(lambda m, a, o: told.append("post"))
    module.register_forward_hook(
        lambda m, a, k, o: told.append("post with kwargs"), with_kwargs=True
    )
    module.register_forward_hook(lambda m, a, o: told.append("always"), always_call=True)
    ask(net, images(), layers)
    assert told == ["pre", "pre with kwargs", "post", "post with kwargs", "always"]
    assert len(module._forward_hooks) == 3
    assert len(module._forward_pre_hooks) == 2


@pytest.mark.parametrize("place", PLACES)
def test_hooks_are_still_there_and_in_the_same_tables(place):
    net = Chain()
    module = net.get_submodule(place)
    handle = module.register_forward_hook(lambda m, a, o: None)
    tables = {k: (id(v), list(v)) for k, v in module.__dict__.items() if k.endswith("_hooks")}
    ask(net, images())
    assert {
        k: (id(v), list(v)) for k, v in module.__dict__.items() if k.endswith("_hooks")
    } == tables
    handle.remove()
    assert not module._forward_hooks


def test_a_hook_may_remove_itself_or_add_another_during_the_call():
    net, told = Chain(), []

    def once(module, args, output):
        told.append("once")
        handle.remove()
        module.register_forward_hook(lambda m, a, o: told.append("later"))

    handle = net.stem.register_forward_hook(once)
    same(ask(net, images(), "stem").output, Chain()(images()).detach())
    assert told[0] == "once"


@pytest.mark.parametrize("place", ["stem", "body"])
def test_the_map_is_about_what_the_hooks_return(place):
    class Shifted(Chain):
        """The twin that does in code what the hook does."""

        def __init__(self) -> None:
            super().__init__()
            setattr(self, place, nn.Sequential(getattr(self, place), Turn()))

    class Turn(nn.Module):
        def forward(self, z):
            return 0.5 - 2 * z

    net, x = Chain(), images()
    getattr(net, place).register_forward_hook(lambda m, a, o: 0.5 - 2 * o)
    found = ask(net, x)
    activations, gradients = split(Shifted(), x, "body", of_class(1))
    close(found.raw["body"], (activations * gradients).sum(1))
    same(found.output, net(x).detach())


def test_a_pre_hook_that_changes_the_input_is_honoured():
    net, x = Chain(), images()
    net.register_forward_pre_hook(lambda m, args: (args[0].flip(-1) * 0.5,))
    activations, gradients = split(Chain(), x.flip(-1) * 0.5, "body", of_class(1))
    close(ask(net, x).raw["body"], (activations * gradients).sum(1))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("place", ["body", "neck", "head"])
def test_backward_hooks_see_the_gradients_they_always_see(place):
    def gradients_told(run):
        net, told = Chain(), []
        net.get_submodule(place).register_full_backward_hook(
            lambda m, gi, go: told.append(go[0].detach().clone())
        )
        run(net)
        return told

    x = images()
    by_hand = gradients_told(lambda net: net(x)[:, 1].sum().backward())
    inside = gradients_told(lambda net: ask(net, x, "body"))
    if place == "body":
        assert len(inside) <= 1
    else:
        assert len(inside) == len(by_hand) == 1
        close(inside[0], by_hand[0])


def test_tensor_hooks_on_parameters_do_not_fire():
    net, told = Chain(), []
    net.neck.weight.register_hook(lambda g: told.append("weight"))
    ask(net, images())
    assert told == []
    assert net.neck.weight.grad is None


def test_a_hook_that_keeps_activations_for_its_owner_still_does():
    net, kept = Chain(), {}
    net.body.register_forward_hook(lambda m, a, o: kept.update(body=o))
    found = ask(net, images(), "body", HiRes())
    same(kept["body"].detach(), net.until("body", images()).detach())
    assert torch.isfinite(found.raw["body"]).all()
