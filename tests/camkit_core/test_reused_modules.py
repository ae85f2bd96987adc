"""A module that runs several times must be named with its call, and then gives that call."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import CLASSES, fill, images
from torch import nn

from camkit_core import CaptureError, Need, TensorRows, explain


class Reused(nn.Module):
    """One convolution and one activation, three times; `forward` can be cut at every call."""

    def __init__(self, calls: int = 3) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.same_conv = self.conv
        self.act = nn.SiLU()
        self.head = nn.Linear(6, CLASSES)
        self.calls = calls
        fill(self)
        self.eval()

    def forward(self, x):
        return self.cut(x)[0]

    def cut(self, x, keep="", replace=None):
        """Output, and the output of the given call (replaced, if asked)."""
        kept, z = {}, self.lift(x)
        for call in range(self.calls):
            for name in ("conv", "act"):
                z = getattr(self, name)(z)
                if keep == f"{name}#{call}":
                    z = kept[keep] = z if replace is None else replace
        return self.head(z.flatten(2).mean(2)), kept.get(keep)


CALLS = [f"{name}#{call}" for call in range(3) for name in ("conv", "act")]


def by_hand(net, x, call, target=1):
    leaf = net.cut(x, call)[1].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.cut(x, call, leaf)[0][:, target].sum(), leaf)
    return leaf.detach(), gradient


@pytest.mark.parametrize("layer", ["conv", "act", "same_conv"])
def test_a_module_that_runs_several_times_must_be_named_with_its_call(layer):
    with pytest.raises(
        CaptureError, match=rf"layer '{layer}' ran 3 times.*'{layer}#0' to '{layer}#2'"
    ):
        explain(Reused(), images(), HiRes(), 1, layer, registry=registry())


@pytest.mark.parametrize("call", CALLS)
def test_the_named_call_is_the_one_that_is_explained(call):
    net, x = Reused(), images(2)
    found = explain(net, x, HiRes(), 1, call, registry=registry())
    activations, gradients = by_hand(net, x, call)
    close(found.raw[call], (activations * gradients).sum(1))
    same(found.output, net(x).detach())


def test_all_calls_together_are_what_each_is_alone():
    net, x = Reused(), images(2)
    found = explain(net, x, HiRes(), 1, CALLS, registry=registry())
    assert list(found.raw) == CALLS
    for call in CALLS:
        activations, gradients = by_hand(net, x, call)
        close(found.raw[call], (activations * gradients).sum(1))


def test_another_name_of_the_same_module_counts_the_same_calls():
    net, x = Reused(), images(2)
    one = explain(net, x, HiRes(), 1, "conv#1", registry=registry()).raw["conv#1"]
    two = explain(net, x, HiRes(), 1, "same_conv#1", registry=registry()).raw["same_conv#1"]
    same(two, one)


def test_a_module_under_two_names_may_be_captured_under_both():
    net, x = Reused(), images(2)
    found = explain(net, x, HiRes(), 1, ["conv#0", "same_conv#2"], registry=registry())
    for name, call in (("conv#0", "conv#0"), ("same_conv#2", "conv#2")):
        activations, gradients = by_hand(net, x, call)
        close(found.raw[name], (activations * gradients).sum(1))


@pytest.mark.parametrize("call", [3, 17])
def test_a_call_that_did_not_happen_is_refused_with_the_count(call):
    with pytest.raises(
        CaptureError, match=rf"'conv' ran 3 time\(s\), so there is no call #{call}.*'conv#0'"
    ):
        explain(Reused(), images(), HiRes(), 1, f"conv#{call}", registry=registry())


def test_the_first_call_of_a_module_that_runs_once_needs_no_number():
    net, x = Reused(1), images()
    plain, numbered = (
        explain(net, x, HiRes(), 1, layer, registry=registry()) for layer in ("conv", "conv#0")
    )
    same(plain.maps, numbered.maps)
    with pytest.raises(CaptureError, match=r"ran 1 time\(s\)"):
        explain(net, x, HiRes(), 1, "conv#1", registry=registry())


@pytest.mark.parametrize("call", CALLS)
def test_the_tail_changes_that_call_only(call):
    net, x, found = Reused(), images(2), []

    def look(capture):
        owner = torch.tensor([0, 1, 1])
        found.append(capture.tail(TensorRows(capture.activations[owner] * 0.3, owner)))
        return capture.activations.sum(1)

    needs = Need.ACTIVATIONS | Need.TAIL
    explain(net, x, spy(look, needs), 1, call, registry=registry())
    owner = torch.tensor([0, 1, 1])
    changed = net.cut(x, call)[1][owner] * 0.3
    wanted = net.cut(x[owner], call, changed)[0].detach()[:, 1]
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


class Sometimes(Reused):
    """How often the convolution runs depends on the image."""

    def forward(self, x):
        self.calls = 2 if float(x.mean()) > 0 else 3
        return super().forward(x)


def test_the_number_of_calls_is_that_of_this_input():
    net = Sometimes()
    for x, calls in ((images().abs(), 2), (-images().abs(), 3)):
        with pytest.raises(CaptureError, match=f"ran {calls} times"):
            explain(net, x, HiRes(), 1, "conv", registry=registry())
    assert net.calls == 3
