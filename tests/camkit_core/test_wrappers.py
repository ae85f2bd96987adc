"""Compiled, parallel, sharded and scripted models."""

from __future__ import annotations

import warnings

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry
from core_proof.networks import Chain, images, of_class, split
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import INPUT, CapabilityError, CaptureError, Explainer, explain, probe_layers


def ask(net, x, layers="body", method="hires"):
    return explain(net, x, method, 1, layers, registry=registry())


@pytest.fixture
def wanted():
    activations, gradients = split(Chain(), images(), "body", of_class(1))
    return (activations * gradients).sum(1)


@pytest.fixture
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.usefixtures("_fresh_compiler")
class TestCompiled:
    @pytest.mark.parametrize("warm", [False, True])
    def test_a_compiled_model_is_explained_by_its_own_layer_names(self, warm, wanted):
        net, x = Chain(), images()
        compiled = torch.compile(net, backend="eager")
        if warm:
            compiled(x)
        found = ask(compiled, x)
        close(found.raw["body"], wanted)
        assert found.provenance.notes == ()
        torch.testing.assert_close(compiled(x), Chain()(x), rtol=1e-12, atol=0)

    def test_the_compiled_code_is_not_thrown_away(self):
        net, x, compilations = Chain(), images(), []

        def backend(graph, inputs):
            compilations.append(1)
            return graph

        compiled = torch.compile(net, backend=backend)
        compiled(x)
        before = len(compilations)
        ask(compiled, x)
        compiled(x)
        assert before == len(compilations) > 0

    def test_a_model_compiled_in_place_is_explained(self, wanted):
        net, x = Chain(), images()
        net.compile(backend="eager")
        net(x)
        with unchanged(net, x):
            found = ask(net, x)
        close(found.raw["body"], wanted)

    @pytest.mark.parametrize("name", ["body", "body._orig_mod", "neck"])
    def test_a_compiled_layer_is_explained_under_either_name(self, name):
        net, x = Chain(), images()
        net.body = torch.compile(net.body, backend="eager")
        net(x)
        layer = name.partition(".")[0]
        activations, gradients = split(Chain(), x, layer, of_class(1))
        with unchanged(net, x):
            close(ask(net, x, name).raw[layer], (activations * gradients).sum(1))
        assert isinstance(net.body, torch._dynamo.eval_frame.OptimizedModule)

    def test_a_layer_of_the_plain_model_is_found_in_the_compiled_one(self, wanted):
        net, x = Chain(), images()
        close(ask(torch.compile(net, backend="eager"), x, net.body).raw["body"], wanted)


class TestParallel:
    def test_data_parallel_is_unwrapped(self, wanted):
        net, x = nn.DataParallel(Chain()), images()
        found = ask(net, x)
        close(found.raw["body"], wanted)
        assert ask(net, x, net.module.body).provenance.layers == ("body",)

    def test_wrappers_inside_wrappers_are_unwrapped(self, wanted):
        net = torch.compile(nn.DataParallel(Chain()), backend="eager")
        close(ask(net, images()).raw["body"], wanted)

    def test_data_parallel_inside_the_model_is_unwrapped(self, wanted):
        net, x = Chain(), images()
        net.body = nn.DataParallel(net.body)
        with unchanged(net, x):
            close(ask(net, x).raw["body"], wanted)


class FullyShardedDataParallel(nn.Module):
    """Named like the wrapper whose layers exist in no single place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


class FSDPModule:
    """The mixin of the second generation."""


class Sharded(FSDPModule, Chain):
    pass


@pytest.mark.parametrize("build", [lambda: FullyShardedDataParallel(Chain()), Sharded])
def test_sharded_models_are_refused_with_the_remedy(build):
    words = "shards its parameters.*plain model"
    with pytest.raises(CapabilityError, match=words):
        Explainer(build(), "body")
    with pytest.raises(CapabilityError, match=words):
        probe_layers(build(), images())


def test_a_sharded_part_of_a_model_is_refused():
    net = Chain()
    net.body = FullyShardedDataParallel(net.body)
    with pytest.raises(CapabilityError, match="shards its parameters"):
        ask(net, images(), "neck")


class Scriptable(nn.Module):
    """A plain network the script compiler understands."""

    def __init__(self) -> None:
        super().__init__()
        chain = Chain()
        self.stem, self.body, self.neck, self.head = chain.stem, chain.body, chain.neck, chain.head

    def forward(self, x):
        z = nn.functional.silu(self.body(nn.functional.silu(self.stem(x))))
        z = nn.functional.silu(self.neck(z))
        return self.head(z.flatten(2).mean(2))


def compiled_to_script(kind, net, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of torch call TorchScript deprecated
        return torch.jit.script(net) if kind == "script" else torch.jit.trace(net, x)


@pytest.mark.parametrize("kind", ["script", "trace"])
class TestScripted:
    def test_layers_of_a_scripted_model_are_refused_with_what_works(self, kind):
        x = images()
        net = compiled_to_script(kind, Scriptable().eval(), x)
        with pytest.raises(CapabilityError, match=r"TorchScript.*without hooks.*Python model"):
            ask(net, x)

    def test_input_gradients_of_a_scripted_model_work(self, kind):
        x = images()
        net = compiled_to_script(kind, Scriptable().eval(), x)
        found = ask(net, x, None, "saliency")
        close(found.raw[INPUT], ask(Scriptable().eval(), x, None, "saliency").raw[INPUT])

    def test_a_scripted_part_of_a_model_does_no_harm(self, kind, wanted):
        net, x = Chain(), images()
        z = net.act(net.body(net.act(net.stem(x))))
        net.neck = compiled_to_script(kind, net.neck, z)
        found = ask(net, x)
        close(found.raw["body"], wanted)
        with pytest.raises(CapabilityError, match="TorchScript"):
            ask(net, x, "neck")

    def test_a_scripted_part_in_training_mode_is_refused(self, kind):
        net, x = Chain(), images()
        z = net.act(net.body(net.act(net.stem(x))))
        net.neck = compiled_to_script(kind, net.neck.train(), z)
        net.neck.train()
        with pytest.raises(CaptureError, match=r"TorchScript.*training mode.*eval\(\)"):
            ask(net, x)

    def test_the_output_of_a_model_with_a_scripted_part_is_its_own(self, kind):
        net, x = Chain(), images()
        z = net.act(net.body(net.act(net.stem(x))))
        net.neck = compiled_to_script(kind, net.neck, z)
        same(ask(net, x, "body", HiRes()).output, net(x).detach())
