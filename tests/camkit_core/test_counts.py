"""One forward in all, one backward per target: counted in the model, not believed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import GradCAM, HiRes, Mean, Saliency, registry, spy
from core_proof.networks import CLASSES, Chain, fill, images
from torch import nn

from camkit_core import BudgetError, Need, TensorRows, compare, explain


class Counting(torch.autograd.Function):
    """Identity that counts its own calls, forward and backward."""

    @staticmethod
    def forward(ctx, z, tally, name):
        ctx.tally, ctx.label = tally, name
        tally[f"forward {name}"] += 1
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.tally[f"backward {ctx.label}"] += 1
        return gradient, None, None


class Counted(Chain):
    """Counts work right behind the stem and right before the head."""

    def __init__(self, **words) -> None:
        super().__init__(**words)
        self.tally = Counter()

    def act(self, z):
        return Counting.apply(super().act(z), self.tally, "step")

    def finish(self, a):
        return super().finish(Counting.apply(a, self.tally, "end"))


def run(ask, net=None):
    net = net or Counted()
    found = ask(net)
    first = found if hasattr(found, "provenance") else next(iter(found.values()))
    calls = net.tally["forward end"], net.tally["backward end"]
    made = first.provenance.forwards + first.provenance.tails
    assert (made, first.provenance.backwards) == calls
    return calls


def many(methods, targets, layers="body"):
    return lambda net: compare(net, images(3), methods, targets, layers, registry=registry())


@pytest.mark.parametrize(
    ("method", "backwards"),
    [(GradCAM(), 1), (HiRes(), 1), (Mean(), 0), (Saliency(), 1)],
    ids=lambda value: getattr(value, "name", value),
)
def test_one_method_costs_one_forward_and_what_it_declares(method, backwards):
    calls = run(lambda net: explain(net, images(3), method, 1, "body", registry=registry()))
    assert calls == (1, backwards)


def test_a_method_without_gradients_builds_no_graph():
    net, graphs = Counted(), []
    net.finish = lambda a: graphs.append(a.requires_grad) or Chain.finish(net, a)
    explain(net, images(), "mean", 1, "body", registry=registry())
    assert graphs == [False]


def test_nothing_below_the_layer_is_differentiated():
    net = Counted()
    explain(net, images(), "gradcam", 1, "neck", registry=registry())
    assert net.tally == {"forward step": 3, "forward end": 1, "backward end": 1, "backward step": 1}


def test_nothing_below_the_first_of_several_layers_is_differentiated():
    net = Counted()
    explain(net, images(), "gradcam", 1, ["neck", "body"], registry=registry())
    assert net.tally["backward step"] == 2


def test_many_methods_share_one_forward_and_one_backward():
    methods = [GradCAM(), HiRes(), HiRes(gain=3.0), Mean(), "gradcam", "hires:rectify=true"]
    assert run(many(methods, [2])) == (1, 1)


def test_layer_and_input_methods_share_one_forward_and_one_backward():
    assert run(many(["gradcam", "saliency", "mean"], [2])) == (1, 1)


def test_several_layers_share_one_backward():
    assert run(many(["gradcam", "hires"], [2], list(Chain.order))) == (1, 1)


@pytest.mark.parametrize("targets", [1, 2, 5])
def test_every_further_target_costs_at_most_one_backward(targets):
    forwards, backwards = run(many(["gradcam", "hires", "mean"], list(range(targets))))
    assert forwards == 1
    assert 1 <= backwards <= targets


def test_behind_convolutions_every_target_has_its_own_backward():
    assert run(many(["gradcam", "hires"], [0, 1, 2], "stem")) == (1, 3)


class Light(nn.Module):
    """Little work behind the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).mean((2, 3)))


def test_targets_of_any_code_share_a_backward():
    def stronger(scores):
        first, second = scores.detach()[:2]
        return scores[0] ** 2 if first > second else second * scores[2]

    net, x, reg = Light(), images(4), registry()
    targets = [stronger, 1, lambda scores: scores.max() - scores.min()]
    together = compare(net, x, ["gradcam"], targets, "conv", registry=reg)
    assert {e.provenance.backwards for e in together.values()} == {1}
    for (method, target), found in together.items():
        alone = explain(net, x, method, targets[target], "conv", registry=reg)
        close(found.raw["conv"], alone.raw["conv"], 1e-12)


def test_a_light_tail_takes_all_targets_in_one_backward():
    net, x, reg = Light(), images(3), registry()
    together = compare(net, x, ["gradcam", "hires"], list(range(CLASSES)), "conv", registry=reg)
    assert {e.provenance.backwards for e in together.values()} == {1}
    for (method, target), found in together.items():
        alone = explain(net, x, method, target, "conv", registry=reg)
        close(found.raw["conv"], alone.raw["conv"], 1e-12)


class Named(torch.autograd.Function):
    """A user's own operation, which may keep anything under any name."""

    @staticmethod
    def forward(ctx, z):
        ctx.name = "mine"
        return z * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def test_a_users_own_operation_may_be_anywhere_behind_the_layer():
    class Custom(Chain):
        def finish(self, a):
            return super().finish(Named.apply(a) / 2)

    x, targets = images(2), [0, 1, 2]
    found = compare(Custom(), x, ["gradcam"], targets, "neck", registry=registry())
    wanted = compare(Chain(), x, ["gradcam"], targets, "neck", registry=registry())
    for key, explanation in found.items():
        close(explanation.raw["neck"], wanted[key].raw["neck"])


def test_targets_that_differ_per_image_cost_one_backward_together():
    assert run(many(["gradcam"], [[0, 1, 2]])) == (1, 1)


def test_functions_of_the_output_share_the_forward():
    targets = [lambda out: out[0] - out[1], lambda out: out.logsumexp(0), 3]
    forwards, backwards = run(many(["gradcam"], targets))
    assert forwards == 1
    assert backwards <= 3


def test_second_order_costs_one_backward_more_per_product():
    needs = Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER
    method = spy(lambda c: (c.gradients + c.hvp(c.activations)).sum(1), needs)
    found = explain(Chain(), images(), method, 0, "body", registry=registry())
    assert (found.provenance.forwards, found.provenance.backwards) == (1, 2)


@pytest.mark.parametrize(("batch_size", "runs"), [(1, 7), (3, 3), (7, 1), (None, 1)])
@pytest.mark.parametrize("kind", ["scores", "tail"])
def test_perturbed_rows_take_as_many_forwards_as_chunks(kind, batch_size, runs):
    def look(capture):
        what = capture.activations if kind == "tail" else capture.inputs
        owner = torch.arange(7) % 3
        getattr(capture, kind)(TensorRows(what[owner], owner))
        return capture.activations.sum(1)

    needs = Need.ACTIVATIONS | Need.TAIL | Need.SCORES
    words = {"registry": registry(), "batch_size": batch_size}
    calls = run(lambda net: explain(net, images(3), spy(look, needs), 0, "body", **words))
    # A tail is tried once before it is trusted: by the whole model, with rows of all images,
    # with rows of one, and to see which outputs before the layer are read.
    assert calls == (1 + runs + 4 * (kind == "tail"), 0)


def test_a_recapture_is_one_forward_and_one_backward():
    def look(capture):
        again = capture.at(capture.inputs * 0.5)
        return (again.activations * again.gradients).sum(1)

    needs = Need.ACTIVATIONS | Need.GRADIENTS | Need.RECAPTURE
    net = Counted()
    found = explain(net, images(3), spy(look, needs), 0, "body", registry=registry())
    assert net.tally["forward end"] == found.provenance.forwards == 2
    assert net.tally["backward end"] == found.provenance.backwards == 1


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_budget_is_checked_before_the_rows_run(budget):
    def look(capture):
        capture.scores(TensorRows(capture.inputs[[0] * 10], torch.zeros(10, dtype=torch.long)))
        return capture.inputs.sum(1)

    net = Counted()
    with pytest.raises(BudgetError, match=rf"10 rows take 5 forwards.*budget={budget}"):
        explain(
            net,
            images(2),
            spy(look, Need.SCORES),
            0,
            batch_size=2,
            budget=budget,
            registry=registry(),
        )
    assert net.tally["forward end"] == 1


def test_a_budget_that_is_met_exactly_is_enough():
    def look(capture):
        capture.scores(TensorRows(capture.inputs[[0] * 10], torch.zeros(10, dtype=torch.long)))
        return capture.inputs.sum(1)

    net = Counted()
    explain(net, images(2), spy(look, Need.SCORES), 0, batch_size=2, budget=6, registry=registry())
    assert net.tally["forward end"] == 6


def test_progress_is_told_after_every_map():
    told = []
    compare(
        Chain(),
        images(2),
        ["gradcam", "mean"],
        [0, 1],
        "body",
        progress=lambda done, total: told.append((done, total)),
        registry=registry(),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
