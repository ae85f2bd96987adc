"""The linear layer behind global average pooling is found, or its absence is said."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, fill, images
from torch import nn

from camkit_core import CapabilityError, Need, explain


def head_of(net, x, layer="features", **words):
    found = []

    def look(capture):
        found.append(capture.head)
        return torch.einsum("kc,nchw->nkhw", capture.head.weight, capture.activations)[:, 0]

    words.setdefault("target", 0)
    explain(
        net, x, spy(look, Need.ACTIVATIONS | Need.HEAD), layers=layer, registry=registry(), **words
    )
    return found[0]


class Network(nn.Module):
    """Features, some way to pool, some way to classify."""

    def __init__(self, pool=None, classify=None, between=None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.SiLU())
        self.between = between or nn.Identity()
        self.pool = pool or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = classify or nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.classify(self.pool(self.between(self.features(x))))


class Functional(nn.Module):
    def forward(self, z):
        return z.flatten(2).mean(2)


FOUND = {
    "pooling module": ({}, "classify"),
    "mean in code": ({"pool": Functional()}, "classify"),
    "dropout before": (
        {"classify": nn.Sequential(nn.Dropout(0.5), nn.Linear(6, CLASSES))},
        "classify.1",
    ),
    "without bias": ({"classify": nn.Linear(6, CLASSES, bias=False)}, "classify"),
    "a 1x1 convolution": (
        {
            "pool": nn.AdaptiveAvgPool2d(1),
            "classify": nn.Sequential(nn.Conv2d(6, CLASSES, 1), nn.Flatten()),
        },
        "classify.0",
    ),
    "a container that keeps the mean": ({"between": nn.Sequential(nn.Dropout(0.3))}, "classify"),
}


@pytest.mark.parametrize("kind", FOUND)
@pytest.mark.parametrize("train", [False, True])
def test_the_head_is_found_and_explains_the_logits(kind, train):
    parts, name = FOUND[kind]
    net, x = Network(**parts), images(3)
    wanted = net(x).detach()
    head = head_of(net.train(train), x)
    assert head.name == name
    pooled = net.features(x).mean((2, 3)).detach()
    bias = 0 if head.bias is None else head.bias
    close(pooled @ head.weight.T + bias, wanted, 1e-12)
    assert (head.bias is None) == (kind == "without bias")
    assert not head.weight.requires_grad


REFUSED = {
    "two linear layers": {
        "classify": nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    },
    "maximum pooling": {"pool": nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())},
    "an activation between": {"between": nn.Tanh()},
    "something behind the head": {"classify": nn.Sequential(nn.Linear(6, CLASSES), nn.Softmax(1))},
    "no linear layer": {"classify": nn.Identity()},
    "a norm between": {"classify": nn.Sequential(nn.LayerNorm(6), nn.Linear(6, CLASSES))},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_without_such_a_head_is_refused(kind):
    with pytest.raises(CapabilityError, match=r"not one linear layer of the average of 'features'"):
        head_of(Network(**REFUSED[kind]), images())


def test_an_earlier_layer_has_no_head():
    with pytest.raises(CapabilityError, match=r"'features.0'.*gradcam"):
        head_of(Network(), images(), "features.0")


def test_an_output_without_class_scores_has_no_head():
    class Two(Network):
        def forward(self, x):
            y = super().forward(x)
            return y, y

    with pytest.raises(CapabilityError, match="class weights need class scores"):
        head_of(Two(), images(), target=lambda out: out[0][0])
    assert head_of(Two(), images(), output=0).name == "classify"


def test_a_head_in_half_precision_is_recognized():
    net, x = Network().bfloat16(), images(dtype=torch.bfloat16)
    head = head_of(net, x)
    assert head.name == "classify"
    assert head.weight.dtype == torch.float32


def test_an_auxiliary_head_is_not_taken_for_the_head():
    class Auxiliary(Network):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(6, CLASSES)
            fill(self)

        def forward(self, x):
            z = self.features(x)
            return {"logits": self.classify(self.pool(z)), "aux": self.aux(self.pool(z))}

    net, x = Auxiliary(), images()
    assert head_of(net, x).name == "classify"
    assert head_of(net, x, output="aux").name == "aux"
