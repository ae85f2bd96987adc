"""Lazy modules, checkpointing, exchanged modules, patched forwards in training mode."""

from __future__ import annotations

import functools

import pytest
import torch
from core_proof.checks import close, or_refused, same
from core_proof.methods import HiRes, registry
from core_proof.networks import CLASSES, Chain, fill, images, of_class, split
from core_proof.snapshot import unchanged
from torch import nn
from torch.utils.checkpoint import checkpoint

from camkit_core import CaptureError, Explainer, LayerError, explain


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyConv2d(6, 3)
        self.head = nn.LazyLinear(CLASSES)
        self.eval()

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)).flatten(2).mean(2))


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_a_lazy_model_without_parameters_is_refused_and_stays_lazy():
    net, x = Lazy(), images(2).float()
    with pytest.raises(CaptureError, match="LazyConv2d has no parameters yet; run the model once"):
        explain(net, x, HiRes(), 1, "layer", registry=registry())
    assert net.layer.has_uninitialized_params()
    assert type(net.layer) is nn.LazyConv2d
    with torch.no_grad():
        net(x)
    found = explain(net, x, HiRes(), 1, "layer", registry=registry())
    assert type(net.layer) is nn.Conv2d
    assert torch.equal(found.output, net(x).detach())


class Checkpointed(Chain):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x):
        z = self.act(self.body(self.act(self.stem(x))))
        return self.finish(
            checkpoint(lambda t: self.act(self.neck(t)), z, use_reentrant=self.reentrant)
        )


@pytest.mark.parametrize("layer", ["stem", "body"])
def test_checkpointing_behind_the_layer_gives_the_plain_map(layer):
    net, x = Checkpointed(reentrant=False), images(2)
    activations, gradients = split(Chain(), x, layer, of_class(1))
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 1, layer, registry=registry())
    close(found.raw[layer], (activations * gradients).sum(1))


def test_a_layer_inside_a_checkpoint_is_right_or_refused():
    net, x = Checkpointed(reentrant=False), images(2)
    activations, gradients = split(Chain(), x, "neck", of_class(1))
    with or_refused(CaptureError, "checkpoint"):
        found = explain(net, x, HiRes(), 1, "neck", registry=registry())
        close(found.raw["neck"], (activations * gradients).sum(1))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("layer", ["stem", "body", "neck"])
def test_reentrant_checkpointing_is_right_or_refused_with_the_remedy(layer):
    net, x = Checkpointed(reentrant=True), images(2)
    activations, gradients = split(Chain(), x, layer, of_class(1))
    with unchanged(net, x), or_refused(CaptureError, "checkpointing"):
        found = explain(net, x, HiRes(), 1, layer, registry=registry())
        close(found.raw[layer], (activations * gradients).sum(1))


def test_an_explainer_follows_a_layer_that_was_exchanged():
    net, x = Chain(), images(2)
    explainer = Explainer(net, ["body"], registry=registry())
    explainer.explain(x, HiRes(), 1)
    net.body = Chain(seed=5).body
    activations, gradients = split(net, x, "body", of_class(1))
    close(explainer.explain(x, HiRes(), 1).raw["body"], (activations * gradients).sum(1))


def test_an_explainer_says_when_its_layer_is_gone():
    net, x = Chain(), images(2)
    explainer = Explainer(net, "neck", registry=registry())
    net.order = ("stem", "body")
    del net.neck
    with pytest.raises(LayerError, match="has no layer 'neck'"):
        explainer.explain(x, HiRes(), 1)


def closed(net):
    forward = type(net).forward
    net.forward = lambda x: forward(net, x)
    return net


@pytest.mark.parametrize("where", ["root", "body"])
def test_a_forward_replaced_by_a_closure_is_refused_in_training_mode_only(where):
    net, x = Chain(), images(2)
    closed(net if where == "root" else net.body)
    wanted = explain(Chain(), x, HiRes(), 1, "neck", registry=registry())
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 1, "neck", registry=registry())
    same(found.raw["neck"], wanted.raw["neck"])
    net.train()
    with unchanged(net, x), pytest.raises(CaptureError, match=r"training mode.*eval\(\)"):
        explain(net, x, HiRes(), 1, "neck", registry=registry())


class Wrapped(Chain):
    """Like the wrappers of device placement: a partial of a function of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        for module in (self, self.body):
            plain = functools.partial(type(module).forward, module)
            module.forward = functools.partial(self.placed, module, plain)
        self.eval()

    @staticmethod
    def placed(module, plain, *args):
        return plain(*args)

    def finish(self, a):
        return super().finish(self.drop(a))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layer", ["stem", "body", "neck"])
def test_partials_of_originals_run_on_the_copies(train, layer):
    net, x = Wrapped().train(train), images(2)
    activations, gradients = split(Chain(), x, layer, of_class(1))
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 1, layer, registry=registry())
    close(found.raw[layer], (activations * gradients).sum(1))
    assert found.provenance.forwards == 1


class Switching(nn.Module):
    """A different branch for every size of image."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.large(x) if x.shape[-1] > 8 else self.small(x)
        return self.head(torch.tanh(z).flatten(2).mean(2))


def test_the_branch_that_runs_for_this_image_is_the_one_that_can_be_explained():
    net, reg = Switching(), registry()
    wide, narrow = images(2), images(2)[..., :7]
    for x, used, unused in ((wide, "large", "small"), (narrow, "small", "large")):
        assert explain(net, x, HiRes(), 1, registry=reg).provenance.layers == (used,)
        with pytest.raises(CaptureError, match=rf"'{unused}' did not run for this input"):
            explain(net, x, HiRes(), 1, unused, registry=reg)
