"""A layer whose output is kept somewhere else as well, and used again from there."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, or_refused, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import CLASSES, fill, images
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import CaptureError, Need, TensorRows, explain


class Keeping(nn.Module):
    """Returns its output and leaves it in a box that the rest of the model reads."""

    def __init__(self, box) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.box = box

    def forward(self, x):
        z = self.conv(x)
        self.box[:] = [z]
        return z


class Boxed(nn.Module):
    """`tail(direct, kept)`: the layer reaches the answer on two roads."""

    def __init__(self, use=lambda z: z) -> None:
        super().__init__()
        self.box: list[torch.Tensor] = []
        self.layer = Keeping(self.box)
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        self.use = use
        fill(self)
        self.eval()

    def tail(self, direct, kept):
        z = torch.tanh(self.mix(direct)) * torch.sigmoid(kept)
        return self.head(z.flatten(2).mean(2))

    def forward(self, x):
        direct = self.use(self.layer(x))
        answer = self.tail(direct, self.box[0])
        self.box.clear()
        return answer


def test_both_roads_count_for_the_gradient():
    net, x = Boxed(), images(2)
    leaf = net.layer.conv(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.tail(leaf, leaf)[:, 1].sum(), leaf)
    with unchanged(net, x):
        found = explain(net, x, HiRes(), 1, "layer", registry=registry())
    close(found.raw["layer"], (leaf * gradient).sum(1).detach())
    same(found.output, net(x).detach())


def test_input_gradients_are_right_too():
    net, x = Boxed(), images(2)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)
    needs = Need.ACTIVATIONS | Need.GRADIENTS | Need.INPUT_GRADIENTS
    method = spy(lambda c: (c.input_gradients * c.inputs).sum(1) + 0 * c.gradients.sum(), needs)
    found = explain(net, x, method, 1, "layer", registry=registry())
    close(found.raw["layer"], (gradient * x).sum(1))


def test_a_stored_output_that_is_written_to_is_right_or_refused():
    net, x = Boxed(use=lambda z: z.relu_()), images(2)
    wanted = net(x).detach()
    with unchanged(net, x), or_refused(CaptureError, "stored", "before or behind"):
        found = explain(net, x, HiRes(), 1, "layer", registry=registry())
        same(found.output, wanted)


def test_the_tail_of_a_stored_output_is_right_or_refused():
    net, x, found = Boxed(), images(2), []

    def look(capture):
        owner = torch.arange(2)
        found.append(capture.tail(TensorRows(capture.activations.flip(2), owner)))
        return capture.activations.sum(1)

    z = net.layer.conv(x).flip(2)
    wanted = net.tail(z, z).detach()[:, 1]
    needs = Need.ACTIVATIONS | Need.TAIL
    with or_refused(CaptureError, "layer"):
        explain(net, x, spy(look, needs), 1, "layer", registry=registry())
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


class Remembering(nn.Module):
    """Keeps the last output for its owner, without using it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()
        self.seen: list[torch.Tensor] = []
        self.layer.register_forward_hook(lambda m, a, o: self.seen.append(o.detach()))

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.layer(x))).flatten(2).mean(2))


def test_an_owner_that_collects_outputs_gets_the_same_map():
    net, x = Remembering(), images(2)
    leaf = net.layer(x).detach().requires_grad_()
    score = net.head(torch.tanh(net.mix(leaf)).flatten(2).mean(2))[:, 1].sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    net.seen.clear()
    found = explain(net, x, HiRes(), 1, "layer", registry=registry())
    close(found.raw["layer"], (leaf * gradient).sum(1).detach())
    assert 1 <= len(net.seen) <= found.provenance.forwards
    same(net.seen[-1], leaf.detach())


class Preprocessing(nn.Module):
    """Writes into its own input, as careless models do."""

    def __init__(self, by_keyword: bool = False) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, image, mask=None):
        image.sub_(0.25).div_(2.0)
        if mask is not None:
            mask.clamp_(0, 1)
            image.mul_(mask)
        return self.head(torch.tanh(self.layer(image)).flatten(2).mean(2))


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict"])
@pytest.mark.parametrize("layers", ["layer", None])
def test_a_model_that_writes_into_its_input_does_not_change_the_callers(kind, layers):
    net, x, mask = Preprocessing(), images(2), images(2, channels=1, seed=3)
    inputs = {"tensor": x, "tuple": (x, mask), "dict": {"mask": mask, "image": x}}[kind]
    z = (x - 0.25) / 2 * (1 if kind == "tensor" else mask.clamp(0, 1))
    leaf = net.layer(z).detach().requires_grad_()
    score = net.head(torch.tanh(leaf).flatten(2).mean(2))[:, 1].sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    words = {"image": "image"} if kind == "dict" else {}
    with unchanged(net, (x, mask)):
        found = explain(net, inputs, HiRes(), 1, layers, registry=registry(), **words)
    close(found.raw["layer"], (leaf * gradient).sum(1).detach())
    same(found.inputs, x)


def test_input_gradients_of_a_model_that_writes_into_its_input_are_those_of_the_given_image():
    net, x = Preprocessing(), images(2)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf.clone())[:, 1].sum(), leaf)
    with unchanged(net, x):
        found = explain(net, x, "saliency", 1, registry=registry())
    close(found.raw["input"], (gradient * x).sum(1))


def test_rows_are_not_written_to_by_such_a_model():
    net, x, told = Preprocessing(), images(2), []

    def look(capture):
        owner = torch.tensor([0, 1, 1])
        rows = capture.inputs[owner]
        before = rows.clone()
        told.append([capture.scores(TensorRows(rows, owner)) for _ in range(2)])
        told.append([capture.at(capture.inputs).score, capture.score])
        assert torch.equal(rows, before)
        return capture.inputs.sum(1)

    with unchanged(net, x):
        explain(net, x, spy(look, Need.SCORES | Need.RECAPTURE), 1, registry=registry())
    for one, two in told:
        torch.testing.assert_close(one, two, rtol=0, atol=0)
