"""Where DeepLIFT has no rule there are no multipliers, and it is said why."""

from __future__ import annotations

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, Backwards, images
from core_proof.secants import NEEDS, Net, ask, scored
from core_proof.snapshot import unchanged
from torch.nn import functional as F

from camkit_core import CapabilityError, InputError, Need, explain


def smooth(net, a):
    """A tail that has rules."""
    return scored(net, F.gelu(net.conv(F.relu(a))))


class Hidden(torch.autograd.Function):
    """A function whose derivative is its author's."""

    @staticmethod
    def forward(ctx, a):
        return torch.relu(a)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def guided(a):
    with torch.no_grad():
        return torch.relu(a)


def int8(a):
    """As a kernel of inference may be."""
    if torch.is_grad_enabled():
        raise TypeError("no gradients here")
    return F.relu(a)


def written(a):
    F.relu(a[:, :2], inplace=True)
    return a


REFUSED = {
    "layer norm": (
        lambda net, a: scored(net, F.layer_norm(a, a.shape[1:])),
        "layer normalization .aten.native_layer_norm",
    ),
    "group norm": (lambda net, a: scored(net, F.group_norm(a, 2)), "groups of channels"),
    "batch statistics": (
        lambda net, a: scored(net, F.instance_norm(a)),
        "statistics of its own batch",
    ),
    "attention": (
        lambda net, a: scored(
            net, F.scaled_dot_product_attention(*[a.flatten(2)] * 3).unflatten(2, a.shape[2:])
        ),
        "attention|a product",  # older PyTorch has it in parts
    ),
    "written attention": (
        lambda net, a: scored(
            net, (a.flatten(2).softmax(1) @ torch.ones(70, 70).to(a)).unflatten(2, a.shape[2:])
        ),
        "a softmax",
    ),
    "a gate": (lambda net, a: scored(net, a * torch.sigmoid(a)), "a product or quotient of values"),
    "squeeze and excitation": (
        lambda net, a: scored(net, F.hardsigmoid(a.mean((2, 3), keepdim=True)) * a),
        "a product or quotient of values",
    ),
    "a matrix product": (
        lambda net, a: scored(net, a @ a.transpose(2, 3)),
        "a product or quotient of values",
    ),
    "softsign": (lambda net, a: scored(net, F.softsign(a)), "a product or quotient"),
    "a choice": (lambda net, a: scored(net, a.gather(1, a.argsort(1))), "a choice by value"),
    "the class it takes": (
        lambda net, a: scored(net, a) * F.one_hot(scored(net, a).argmax(1), CLASSES),
        "a choice by value",
    ),
    "a mask": (lambda net, a: scored(net, a * (a > 0)), "a comparison"),
    "a maximum": (lambda net, a: net.head(net.hidden(a.amax((2, 3)))), "a maximum"),
    "two values": (
        lambda net, a: scored(net, torch.maximum(a, net.conv(a))),
        "a maximum",
    ),
    "limits from the layer": (
        lambda net, a: scored(net, a.clamp(min=net.conv(a))),
        "a function of several values",
    ),
    "positions of maxima": (
        lambda net, a: scored(
            net, F.max_unpool2d(*F.max_pool2d(a[..., :6, :], 2, return_indices=True), 2)
        ),
        "unpool",
    ),
    "reading a number": (
        lambda net, a: scored(net, a * float(a.mean())),
        "read into Python",
    ),
    "reading a list": (
        lambda net, a: scored(net, a * a.mean((1, 2, 3)).tolist()[0]),
        "values are read outside of PyTorch",
    ),
    "a branch": (
        lambda net, a: scored(net, F.relu(a) if a.sum() > 0 else a),
        "a comparison",
    ),
    "a detached value": (lambda net, a: scored(net, a + a.detach()), "detached"),
    "a detached function": (lambda net, a: scored(net, a + torch.relu(a.detach())), "detached"),
    "no gradients": (lambda net, a: scored(net, a + guided(a)), "no_grad"),
    "a function of one's own": (lambda net, a: scored(net, Hidden.apply(a)), "no_grad"),
    "a part that is overwritten": (
        lambda net, a: scored(net, written(a + 0)),
        "overwrites a part of a tensor",
    ),
    "a result that is overwritten": (
        lambda net, a: scored(net, F.relu(net.conv(a)).add_(a)),
        "autograd cannot go back through.*modified by an inplace operation",
    ),
    "what runs without gradients only": (
        lambda net, a: scored(net, int8(a)),
        "code that fails where it is watched, with gradients .TypeError: no gradients here",
    ),
    "softmax of the scores": (lambda net, a: scored(net, a).softmax(1), "a softmax"),
}


@pytest.mark.parametrize(("rest", "words"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_rule_is_refused_by_name(rest, words):
    net, x = Net(rest), images(2)
    with unchanged(net, x), pytest.raises(CapabilityError, match=words) as caught:
        ask(net, x)
    assert "DeepLIFT multipliers at layer 'layer'" in str(caught.value)


def test_a_derivative_that_lies_is_found_by_the_sum():
    net = Net(lambda net, a: scored(net, Backwards.apply(a)))
    with pytest.raises(CapabilityError, match=r"contributions of image 0 sum to .*changes by"):
        ask(net)


def test_images_that_take_part_in_one_another_are_found():
    with pytest.raises(CapabilityError, match="contributions of image"):
        ask(Net(lambda net, a: scored(net, a) + a.mean() ** 2))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lambda out: out.log_softmax(0)[1], "a softmax"),
        (lambda out: out.max(), "a maximum"),
        (lambda out: out[int(out.argmax())], "a choice by value"),
        (lambda out: out[0] * out[1], "a product"),
    ],
)
def test_scores_that_have_no_rule(target, words):
    with pytest.raises(CapabilityError, match=words):
        ask(Net(smooth), target=target)


def test_errors_of_the_target_reach_the_caller():
    def bad(out):
        if torch.is_grad_enabled():
            raise ArithmeticError("mine")
        return out[1]

    with pytest.raises(ArithmeticError, match="mine"):
        ask(Net(smooth), target=bad)


def test_a_baseline_of_another_shape():
    def look(capture):
        return capture.multipliers(capture.activations[:, :1]).sum(1)

    with pytest.raises(InputError, match=r"baseline is \[2, 1, 7, 10\].*returned \[2, 4, 7, 10\]"):
        explain(Net(smooth), images(2), spy(look, NEEDS), 1, "layer", registry=registry())


def test_it_needs_to_be_declared():
    with pytest.raises(CapabilityError, match="TAIL"):
        explain(
            Net(smooth),
            images(2),
            spy(lambda c: c.multipliers(c.activations).sum(1), Need.ACTIVATIONS),
            1,
            "layer",
            registry=registry(),
        )
