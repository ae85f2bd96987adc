"""A captured run gives bit for bit the model's output, and runs no original on its path."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import same, telling
from core_proof.methods import registry
from core_proof.networks import images
from core_proof.zoo import TWICE, ZOO, Base, Encoder, Parametrized, Shared, build
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from camkit_core import Explainer, explain


def ran_during(call):
    """Modules whose forward ran inside `call()`, and what it returned."""
    seen: list[nn.Module] = []
    handle = register_module_forward_pre_hook(lambda module, args: seen.append(module))
    try:
        return call(), {id(module) for module in seen}
    finally:
        handle.remove()


def is_the_models(output, net, x):
    """Attention has two implementations, of which one serves only where no graph is built."""
    with torch.no_grad():
        alternatives = (net(x),)
    alternatives += (net(x).detach(),)
    assert any(torch.equal(output, one) for one in alternatives)


def path_to(net, layer):
    """The root and every module on the way to the layer."""
    names = layer.partition("#")[0].split(".")
    return [net.get_submodule(".".join(names[:depth])) for depth in range(len(names) + 1)]


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layers", ["layer", "late", ["layer", "late"]], ids=str)
def test_the_output_is_bit_identical_and_no_original_on_the_path_ran(kind, layers):
    net, x = build(kind), images(2)
    found, ran = ran_during(lambda: explain(net, x, target=1, layers=layers, registry=registry()))
    is_the_models(found.output, net, x)
    for layer in found.raw:
        telling(found.raw[layer])
        assert not ran & set(map(id, path_to(net, layer)))


@pytest.mark.parametrize("kind", TWICE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layer", ["layer", "late#0", "late#1"])
def test_the_output_is_bit_identical_where_a_layer_runs_twice(kind, layer):
    net, x = build(kind), images(2)
    found, ran = ran_during(lambda: explain(net, x, target=1, layers=layer, registry=registry()))
    same(found.output, net(x).detach())
    telling(found.raw[layer])
    assert not ran & set(map(id, path_to(net, layer)))


@pytest.mark.parametrize("layer", ["one#0", "one#1", "one#2", "block", "block.1"])
def test_a_module_with_several_names_is_one_module_of_the_shadow(layer):
    net, x = build(Shared), images(2)
    found = explain(net, x, target=1, layers=layer, registry=registry())
    same(found.output, net(x).detach())
    telling(found.raw[layer])


@pytest.mark.parametrize(
    "layer",
    ["encoder.layers.0", "encoder.layers.1.linear1", "encoder.layers.0.norm2", "encoder"],
)
def test_layers_inside_a_fused_transformer_block_are_captured(layer):
    net, x = build(Encoder), images(2)
    found = explain(
        net,
        x,
        target=1,
        layers=layer,
        reshape=lambda out: out.transpose(1, 2).unflatten(2, x.shape[2:]),
        registry=registry(),
    )
    telling(found.raw[layer])
    torch.testing.assert_close(found.output, net(x).detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layer", ["more", "layer", "more.parametrizations.weight.0"])
def test_parametrized_layers_are_captured_and_their_buffers_kept(layer):
    net, x = build(Parametrized), images(2)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert before, "there is no buffer to keep"
    if layer.endswith("0"):
        net.train()
        layer = "more"
    found = explain(net, x, target=1, layers=layer, registry=registry())
    telling(found.raw[layer])
    after = dict(net.named_buffers())
    assert all(torch.equal(after[name], before[name]) for name in before)
    same(found.output, net.eval()(x).detach())


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore:.*norm.*is deprecated:FutureWarning")
def test_normalisation_by_hooks_runs_on_the_copy(norm):
    net, x = build(Base), images(2)
    getattr(nn.utils, norm)(net.layer)
    net(x)
    before = {name: t.detach().clone() for name, t in net.state_dict().items()}
    net.train()
    found = explain(net, x, target=1, layers="layer", registry=registry())
    telling(found.raw["layer"])
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    same(found.output, net.eval()(x).detach())


def test_an_explainer_sees_weights_that_change_between_calls():
    net, x = build(Base), images(2)
    explainer = Explainer(net, "layer", registry=registry())
    first = explainer.explain(x, target=1)
    with torch.no_grad():
        net.layer.weight.mul_(1.5)
        net.late.weight = nn.Parameter(net.late.weight * -0.5)
    second = explainer.explain(x, target=1)
    same(second.output, net(x).detach())
    assert not torch.equal(first.raw["layer"], second.raw["layer"])
    fresh = explain(net, x, target=1, layers="layer", registry=registry())
    same(second.raw["layer"], fresh.raw["layer"])


def test_an_explainer_sees_a_child_that_was_exchanged():
    net, x = build(Base), images(2)
    explainer = Explainer(net, "layer", registry=registry())
    explainer.explain(x, target=1)
    net.late = build(Base, seed=4).late
    found = explainer.explain(x, target=1)
    same(found.output, net(x).detach())
    telling(found.raw["layer"])
