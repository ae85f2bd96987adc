"""A model in training mode is explained as in eval mode, and stays as it is."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import CLASSES, Chain, fill, images
from core_proof.snapshot import unchanged
from torch import nn
from torch.nn import functional as F

from camkit_core import Need, TensorRows, explain


class Trained(nn.Module):
    """Everything that behaves differently in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.RReLU())
        self.drop = nn.Dropout2d(0.5)
        self.body = nn.Sequential(
            nn.Conv2d(6, 6, 3), nn.InstanceNorm2d(6, track_running_stats=True)
        )
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        for norm in (self.stem[1], self.norm):
            norm.running_mean.normal_(generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        z = self.body(self.drop(self.stem(x)))
        z = F.dropout(F.alpha_dropout(z, 0.3, self.training), 0.5, self.training)
        z = self.norm(torch.tanh(z).flatten(2).mean(2))
        return self.head(z) * (100.0 if self.training else 1.0)


def ask(net, x, layers="body", **words):
    return explain(net, x, HiRes(), 1, layers, registry=registry(), **words)


LAYERS = ["body", "stem", "stem.0", ["stem.2", "body.0"]]


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_maps_and_output_are_those_of_eval_mode(layers):
    x = images(3)
    wanted, found = ask(Trained().eval(), x, layers), ask(Trained().train(), x, layers)
    for layer in wanted.raw:
        close(found.raw[layer], wanted.raw[layer], 1e-12)
    same(found.output, wanted.output)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_statistics_flags_and_random_numbers_are_untouched(layers):
    net, x = Trained().train(), images(3)
    with unchanged(net, x):
        ask(net, x, layers)
    assert all(module.training for module in net.modules())


MIXED = {
    "only the root": lambda name: name == "",
    "only a leaf": lambda name: name == "stem.1",
    "all but the root": lambda name: name != "",
    "frozen norms": lambda name: name not in ("stem.1", "norm"),
    "only dropout": lambda name: name == "drop",
}


@pytest.mark.parametrize("mixed", MIXED)
def test_flags_that_differ_per_module_are_kept_per_module(mixed):
    net, x = Trained(), images(3)
    flags = {name: MIXED[mixed](name) for name, _ in net.named_modules()}
    for name, module in net.named_modules():
        module.training = flags[name]
    with unchanged(net, x):
        found = ask(net, x)
    assert {name: module.training for name, module in net.named_modules()} == flags
    same(found.output, Trained().eval()(x).detach())


def test_the_tail_and_the_scores_of_a_model_in_training_mode_are_those_of_eval_mode():
    def both(net):
        told = []

        def look(capture):
            owner = torch.tensor([0, 1, 1])
            told.append(capture.scores(TensorRows(capture.inputs[owner] * 0.5, owner)))
            told.append(capture.tail(TensorRows(capture.activations[owner] * 0.5, owner)))
            again = capture.at(capture.inputs * 0.5)
            told.append(again.score)
            return again.activations.sum(1)

        needs = Need.SCORES | Need.TAIL | Need.ACTIVATIONS | Need.RECAPTURE
        x = images(2)
        with unchanged(net, x):
            explain(net, x, spy(look, needs), 1, "body", registry=registry())
        return told

    for found, wanted in zip(both(Trained().train()), both(Trained().eval()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_a_map_does_not_depend_on_the_other_images_of_the_batch():
    net, x = Trained().train(), images(4)
    together = ask(net, x).raw["body"]
    for row in range(4):
        close(ask(net, x[row : row + 1]).raw["body"], together[row : row + 1], 1e-10)


class Choosy(Chain):
    """Overrides `train` and keeps a part in eval mode for good."""

    def train(self, mode: bool = True):
        super().train(mode)
        self.told = [*getattr(self, "told", []), mode]
        return self


def test_the_users_own_train_method_is_not_called():
    net = Choosy().train()
    told = list(net.told)
    ask(net, images())
    assert net.told == told
    assert net.training


class Writing(Chain):
    """Notes the last call on itself and on a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = "before"

    def act(self, z):
        self.seen = "after"
        self.body.seen = z
        self.count = getattr(self, "count", 0) + 1
        return super().act(z)


@pytest.mark.parametrize("train", [True, False])
def test_attributes_written_in_forward_stay_on_the_copy(train):
    net, x = Writing().train(train), images()
    with unchanged(net, x):
        ask(net, x)
    assert net.seen == "before"
    assert not hasattr(net, "count")
    assert not hasattr(net.body, "seen")


class Rebinding(Chain):
    """Replaces a child and a buffer of its own in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, dtype=torch.float64))
        self.mode = nn.Identity()

    def finish(self, a):
        self.last = a.detach().mean().reshape(1)
        self.mode = nn.Tanh()
        return super().finish(self.mode(a))


def test_children_and_buffers_rebound_in_forward_stay_on_the_copy():
    net, x = Rebinding(), images()
    with unchanged(net, x):
        found = ask(net, x)
    assert isinstance(net.mode, nn.Identity)
    assert torch.count_nonzero(net.last) == 0
    same(found.output, Rebinding()(x).detach())
