"""The map does not depend on frozen weights or on the caller's gradient modes."""

from __future__ import annotations

import contextlib

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import GradCAM, HiRes, registry
from core_proof.networks import Chain, gradcam, images, of_class, split

from camkit_core import INPUT, CaptureError, TargetError, explain


def ask(net, x, layer="body", **words):
    return explain(net, x, target=1, layers=layer, registry=registry(), **words)


@pytest.fixture
def wanted():
    return gradcam(*split(Chain(), images(), "body", of_class(1)))


FROZEN = {
    "all": lambda name: True,
    "up to the layer": lambda name: name.startswith(("stem", "body")),
    "behind the layer": lambda name: name.startswith(("neck", "head")),
    "biases": lambda name: name.endswith("bias"),
    "none": lambda name: False,
}


@pytest.mark.parametrize("which", FROZEN)
def test_frozen_parameters_change_nothing(which, wanted):
    net = Chain()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not FROZEN[which](name))
    before = {name: p.requires_grad for name, p in net.named_parameters()}
    close(ask(net, images()).raw["body"], wanted)
    assert {name: p.requires_grad for name, p in net.named_parameters()} == before


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
    "nothing": contextlib.nullcontext,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", [GradCAM(), HiRes(), "saliency"])
def test_the_callers_gradient_mode_changes_nothing(mode, method):
    net, x = Chain(), images()
    outside = explain(net, x, method, 1, "body", registry=registry())
    with MODES[mode]():
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        inside = explain(net, x, method, 1, "body", registry=registry())
        assert torch.is_grad_enabled() == grad
        assert torch.is_inference_mode_enabled() == inference
    same(inside.maps, outside.maps)
    same(inside.output, outside.output)
    assert not inside.maps.requires_grad


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_results_made_under_inference_mode_can_be_used_with_autograd(mode, wanted):
    net = Chain()
    with MODES[mode]():
        found = ask(net, images())
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    for tensor in (found.maps, found.raw["body"], found.output, found.score, found.inputs):
        (tensor * gain).sum().backward()
    assert float(gain.grad) != 0


def test_an_input_made_under_inference_mode_is_explained_like_any_other(wanted):
    with torch.inference_mode():
        x = images() + 0
    assert x.is_inference()
    close(ask(Chain(), x).raw["body"], wanted)
    close(
        explain(Chain(), x, "saliency", 1, registry=registry()).raw[INPUT],
        explain(Chain(), images(), "saliency", 1, registry=registry()).raw[INPUT],
    )


@pytest.mark.parametrize("leaf", [True, False])
def test_an_input_that_wants_a_gradient_is_left_without_one(leaf, wanted):
    x = images().requires_grad_()
    given = x if leaf else x * 1.0
    close(ask(Chain(), given).raw["body"], wanted)
    saliency = explain(Chain(), given, "saliency", 1, registry=registry())
    assert x.grad is None
    assert given.requires_grad
    assert not saliency.inputs.requires_grad


class OwnMode(Chain):
    """A model that turns gradients off in a part of its own forward."""

    def __init__(self, mode, start: int, stop: int) -> None:
        super().__init__()
        self.mode, self.start, self.stop = mode, start, stop

    def forward(self, x):
        steps = [lambda t, n=n: self.act(getattr(self, n)(t)) for n in self.order]
        for index, step in enumerate([*steps, self.finish]):
            inside = self.start <= index < self.stop
            with self.mode() if inside else contextlib.nullcontext():
                x = step(x)
        return x


WHERE = {
    "everywhere": (0, 4),
    "backbone": (0, 2),
    "first layer": (0, 1),
    "the layer": (1, 2),
    "layer and tail": (1, 4),
    "behind the layer": (2, 3),
    "tail": (2, 4),
    "head": (3, 4),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_models_own_no_grad_does_not_lose_the_gradient(where, frozen, wanted):
    net = OwnMode(torch.no_grad, *WHERE[where]).requires_grad_(not frozen)
    found = ask(net, images())
    close(found.raw["body"], wanted)
    cut = WHERE[where][1] > 2
    assert any("no_grad" in note for note in found.provenance.notes) or not cut


@pytest.mark.parametrize("where", WHERE)
def test_a_models_own_no_grad_does_not_lose_the_gradient_of_the_input(where):
    x = images()
    wanted = explain(Chain(), x, "saliency", 1, registry=registry()).raw[INPUT]
    net = OwnMode(torch.no_grad, *WHERE[where])
    found = explain(net, x, "saliency", 1, registry=registry())
    close(found.raw[INPUT], wanted)
    assert any("no_grad" in note for note in found.provenance.notes)


class Decorated(Chain):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def test_a_forward_decorated_with_no_grad_gives_the_gradient_all_the_same(wanted):
    found = ask(Decorated(), images())
    close(found.raw["body"], wanted)
    assert found.provenance.forwards <= 2


def test_a_tail_under_no_grad_is_rerun_once_and_noted(wanted):
    found = ask(OwnMode(torch.no_grad, *WHERE["tail"]), images())
    assert found.provenance.forwards == 2
    assert ["no_grad" in note for note in found.provenance.notes] == [True]


def test_a_method_without_gradients_does_not_rerun_a_model_with_no_grad():
    found = explain(Decorated(), images(), "mean", 1, "body", registry=registry())
    assert found.provenance.forwards == 1
    assert found.provenance.notes == ()


@pytest.mark.parametrize("where", ["everywhere", "tail", "layer and tail"])
def test_a_models_own_inference_mode_behind_the_layer_is_refused(where):
    with pytest.raises(TargetError, match=r"not connected to body.*inference_mode"):
        ask(OwnMode(torch.inference_mode, *WHERE[where]), images())


def test_a_models_own_inference_mode_before_the_layer_is_harmless(wanted):
    net = OwnMode(torch.inference_mode, *WHERE["first layer"])
    close(ask(net, images()).raw["body"], wanted)


def test_a_model_built_under_inference_mode_is_refused_with_the_reason():
    with torch.inference_mode():
        net = Chain()
    with pytest.raises(CaptureError, match=r"created under.*inference_mode.*outside"):
        ask(net, images())


def test_a_model_that_turns_gradients_on_before_the_layer_gives_the_same_map(wanted):
    net = OwnMode(torch.enable_grad, *WHERE["everywhere"])
    close(ask(net, images()).raw["body"], wanted)
