"""Writing in place, before, in or after the captured layer, changes neither map nor output."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, or_refused, same
from core_proof.methods import GradCAM, HiRes, registry, spy
from core_proof.networks import Chain, fill, gradcam, images, of_class, split
from torch import nn
from torch.nn import functional as F

from camkit_core import CaptureError, Need, TensorRows, explain


class Rectified(Chain):
    """`Chain` with ReLU, which exists in place and not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def act(self, z):
        return F.relu(z, inplace=self.inplace)


@pytest.mark.parametrize("layer", Chain.order)
@pytest.mark.parametrize("method", [GradCAM(), HiRes()])
def test_an_inplace_relu_behind_the_layer_gives_the_map_of_its_twin(layer, method):
    x = images(3)
    inplace, plain = (
        explain(Rectified(kind), x, method, 2, layer, registry=registry()) for kind in (True, False)
    )
    activations, gradients = split(Rectified(False), x, layer, of_class(2))
    assert bool((activations < 0).any()), "a ReLU would change nothing"
    same(inplace.raw[layer], plain.raw[layer])
    same(inplace.output, Rectified(True)(x).detach())
    if isinstance(method, GradCAM):
        close(inplace.raw[layer], gradcam(activations, gradients))


def test_the_tail_is_right_behind_an_inplace_relu():
    x, owner = images(2), torch.tensor([1, 0, 1])
    net, found = Rectified(True), []

    def look(capture):
        rows = 0.5 * capture.activations[owner]
        before = rows.clone()
        found.append(capture.tail(TensorRows(rows, owner)))
        assert torch.equal(rows, before), "the model wrote into the rows"
        return capture.activations.sum(1)

    explain(net, x, spy(look, Need.ACTIVATIONS | Need.TAIL), 1, "body", registry=registry())
    twin = Rectified(False)
    wanted = twin.after("body", 0.5 * twin.until("body", x)[owner]).detach()[:, 1]
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


class Around(nn.Module):
    """`tail(write(layer(conv(x))))`: the layer aliases its input, then something writes."""

    def __init__(self, layer: nn.Module, write, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.layer = layer
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)
        self.write = write
        fill(self, seed)
        self.eval()

    def tail(self, z):
        return self.head(torch.tanh(self.mix(z)).flatten(2).mean(2))

    def forward(self, x):
        return self.tail(self.write(self.layer(self.conv(x))))


class Same(nn.Module):
    def forward(self, x):
        return x


class View(nn.Module):
    def forward(self, x):
        return x.view_as(x)


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(2, 3).transpose(2, 3)


class Part(nn.Module):
    """A slice: the output shares only a part of its input's memory."""

    def forward(self, x):
        return x[:, :, 1:-1]


def zero_two(z):
    z[:, :2] = 0
    return z


ALIASING = [nn.Identity(), nn.Dropout(0.5), Same(), View(), Turned(), Part(), nn.Sequential()]
WRITES = {
    "add": lambda z: z.add_(1.0),
    "relu": lambda z: z.relu_(),
    "mul": lambda z: z.mul_(-0.7),
    "slice": zero_two,
    "none": lambda z: z,
}


@pytest.mark.parametrize("layer", ALIASING, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("write", WRITES)
def test_a_layer_that_returns_its_input_may_be_written_to_afterwards(layer, write):
    net, x = Around(layer, WRITES[write]), images(3)
    explanation = explain(net, x, HiRes(), 3, "layer", registry=registry())
    leaf = layer.eval()(net.conv(x)).detach().clone().requires_grad_()
    score = net.tail(WRITES[write](leaf.clone()))[:, 3].sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    close(explanation.raw["layer"], (leaf * gradient).sum(1).detach())
    same(explanation.output, net(x).detach())


@pytest.mark.parametrize(
    "layer", [nn.ReLU(inplace=True), nn.Hardtanh(inplace=True), nn.LeakyReLU(0.3, inplace=True)]
)
@pytest.mark.parametrize("write", ["none", "add", "mul"])
def test_a_layer_that_writes_into_its_own_input_is_captured_as_it_returns(layer, write):
    net, x = Around(layer, WRITES[write]), images(2)
    explanation = explain(net, x, HiRes(), 0, ["conv", "layer"], registry=registry())
    before = net.conv(x).detach()
    leaf = before.clone().requires_grad_()
    middle = layer(leaf.clone())
    score = net.tail(WRITES[write](middle.clone()))[:, 0].sum()
    at_conv, at_layer = torch.autograd.grad(score, [leaf, middle])
    close(explanation.raw["conv"], (before * at_conv).sum(1))
    close(explanation.raw["layer"], (middle * at_layer).sum(1).detach())


class Shortcut(nn.Module):
    """The shortcut is an alias of `z`, and `z` is written to before the two meet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.shortcut = nn.Identity()
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.conv(x)
        kept = self.shortcut(z)
        z = z.relu_()
        return self.head(torch.tanh(self.mix(z) + kept).flatten(2).mean(2))


def test_a_shortcut_that_is_written_to_through_its_other_name_is_right_or_refused():
    net, x = Shortcut(), images(2)
    wanted = net(x).detach()
    with or_refused(CaptureError, "shortcut", "memory"):
        explanation = explain(net, x, HiRes(), 1, "shortcut", registry=registry())
        same(explanation.output, wanted)


class Recycling(nn.Module):
    """A layer that returns the same buffer from every call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.scratch: list[torch.Tensor] = []

    def forward(self, x):
        z = self.conv(x)
        if not self.scratch:
            self.scratch.append(torch.empty_like(z.detach()))
        with torch.no_grad():
            self.scratch[0].copy_(z)
        return self.scratch[0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.layer = Recycling()
        self.head = nn.Linear(6, 5)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.layer(self.conv(x)).clone()
        return self.head(torch.tanh(self.layer(z.relu())).flatten(2).mean(2))


def test_a_layer_that_reuses_its_output_buffer_does_not_overwrite_what_was_captured():
    net, x = Twice(), images(2)
    first = net.layer.conv(net.conv(x)).detach()
    explanation = explain(
        net,
        x,
        spy(lambda c: c.activations.sum(1), Need.ACTIVATIONS),
        0,
        "layer#0",
        registry=registry(),
    )
    close(explanation.raw["layer#0"], first.sum(1))
    same(explanation.output, net(x).detach())
