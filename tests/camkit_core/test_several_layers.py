"""Several layers in one call are what each would have been alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import GradCAM, HiRes, registry, spy
from core_proof.networks import CLASSES, Chain, fill, images, of_class, split
from torch import nn

from camkit_core import CaptureError, Need, compare, explain


@pytest.mark.parametrize("layers", list(itertools.permutations(Chain.order)))
def test_every_layer_of_one_call_has_the_map_it_has_alone(layers):
    net, x = Chain(), images(2)
    together = explain(net, x, HiRes(), 1, layers, registry=registry())
    assert list(together.raw) == list(layers)
    for layer in layers:
        activations, gradients = split(net, x, layer, of_class(1))
        close(together.raw[layer], (activations * gradients).sum(1))


class Nest(nn.Module):
    """A container inside a container, and two parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh()),
        )
        self.left = nn.Conv2d(6, 4, 3, padding=1)
        self.right = nn.Sequential(nn.Conv2d(6, 4, 1), nn.SiLU())
        self.unused = nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(8, CLASSES)
        fill(self)
        self.eval()

    def join(self, left, right):
        both = torch.cat([torch.sigmoid(left), right], 1)
        return self.head((both * both).flatten(2).mean(2))

    def forward(self, x):
        z = self.a(x)
        self.unused(z)
        return self.join(self.left(z), self.right(z))


def by_hand(net, x, target=0):
    """Activations and gradients of every layer of `Nest`, by retaining plain tensors."""
    z1 = net.a[0](x).detach().requires_grad_()
    z2 = net.a[1](z1)
    left, right = net.left(z2), net.right(z2)
    places = {"a.0": z1, "a.1": z2, "a": z2, "left": left, "right": right}
    score = net.join(left, right)[:, target].sum()
    found = torch.autograd.grad(score, list(places.values()))
    return {name: (t.detach(), g) for (name, t), g in zip(places.items(), found, strict=True)}


@pytest.mark.parametrize(
    "layers",
    [
        ["a", "a.1"],
        ["a.1", "a"],
        ["a.1.1", "a.1"],
        ["left", "right"],
        ["right", "a.0", "left"],
        ["a", "left", "right", "a.0"],
    ],
    ids=", ".join,
)
def test_nested_and_parallel_layers_have_the_maps_they_have_alone(layers):
    net, x = Nest(), images(2)
    wanted = by_hand(net, x)
    wanted["a.1.1"] = wanted["a.1"]
    explanation = explain(net, x, HiRes(), 0, layers, registry=registry())
    for layer in layers:
        activations, gradients = wanted[layer]
        close(explanation.raw[layer], (activations * gradients).sum(1), 1e-10)
    same(explanation.output, net(x).detach())


def test_a_method_for_all_layers_is_called_once_and_reads_each_of_them():
    net, x, calls = Nest(), images(2), []

    def fuse(capture):
        calls.append(capture.layers)
        parts = [capture[layer] for layer in capture.layers]
        assert [part.layer for part in parts] == list(capture.layers)
        return sum((p.gradients * p.activations).sum(1) for p in parts)

    needs = Need.LAYERS | Need.ACTIVATIONS | Need.GRADIENTS
    explanation = explain(net, x, spy(fuse, needs), 0, ["left", "right"], registry=registry())
    assert calls == [("left", "right")]
    wanted = by_hand(net, x)
    close(
        explanation.raw["left+right"],
        sum((a * g).sum(1) for a, g in (wanted["left"], wanted["right"])),
    )


def test_a_method_for_all_layers_that_names_another_layer_is_told_which_there_are():
    needs = Need.LAYERS | Need.ACTIVATIONS
    method = spy(lambda capture: capture["a.0"].activations.sum(1), needs)
    with pytest.raises(KeyError, match=r"'a.0' was not captured; there are left, right"):
        explain(Nest(), images(2), method, 0, ["left", "right"], registry=registry())


def test_a_branch_the_score_does_not_use_is_refused_by_name():
    with pytest.raises(CaptureError, match=r"no gradient of .* reaches layer 'unused'.*branch"):
        explain(Nest(), images(2), GradCAM(), 0, ["unused", "left"], registry=registry())


def test_a_branch_the_score_does_not_use_has_activations_all_the_same():
    net, x = Nest(), images(2)
    explanation = explain(net, x, "mean", 0, "unused", registry=registry())
    close(explanation.raw["unused"], net.unused(net.a(x)).mean(1).detach())


def test_a_score_that_reads_one_branch_only_refuses_the_other():
    net, x = Nest(), images(2)
    net.head.weight.data[0, 4:] = 0
    connected = explain(net, x, GradCAM(), 0, ["left", "right"], registry=registry())
    assert torch.count_nonzero(connected.raw["right"]) == 0
    assert {(issue.code, issue.layer) for issue in connected.issues} == {("all_zero", "right")}


def test_methods_and_targets_together_are_what_they_are_alone():
    net, x = Nest(), images(3)
    reg, layers = registry(), ["a.0", "right"]
    methods, targets = ["gradcam", HiRes(gain=2.0), "mean"], [0, [1, 2, 3], None]
    together = compare(net, x, methods, targets, layers, registry=reg)
    assert list(together) == [(m, t) for t in range(3) for m in methods]
    for (method, position), found in together.items():
        alone = explain(net, x, method, targets[position], layers, registry=reg)
        for layer in layers:
            close(found.raw[layer], alone.raw[layer], 1e-12)
        close(found.maps, alone.maps, 1e-11)
        assert torch.equal(found.score, alone.score)
