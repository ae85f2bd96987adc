"""The certificate: a gradient where the score is affine in the activations, and nothing else."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, Backwards, fill, images
from core_proof.snapshot import unchanged
from torch import nn
from torch.nn import functional as F

from camkit_core import CapabilityError, ChannelsLast, Need, TensorRows, explain
from camkit_core.affine import without_certificate

NEEDS = Need.ACTIVATIONS | Need.TAIL


class Net(nn.Module):
    """`layer`, then whatever a test wants."""

    def __init__(self, rest=None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.SiLU())
        self.layer = nn.Conv2d(6, 6, 3, padding=1)
        self.point = nn.Conv2d(6, 6, 1)
        self.wide = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.linspace(-1, 1, 6))
            self.norm.running_var.copy_(torch.linspace(0.5, 2, 6))
        self.rest = rest
        self.eval()

    def forward(self, x):
        a = self.layer(self.stem(x))
        return self.rest(self, a, x)


def pooled(net, a):
    return net.head(a.mean((2, 3)))


def via_flatten(net, a, x):
    return net.head(F.adaptive_avg_pool2d(a, 1).flatten(1))


def in_place(net, a, x):
    a += 1
    a.mul_(0.5)
    buffer = a.new_zeros(len(a), 6, *a.shape[2:])
    buffer[:, ::2] = a[:, 1::2]
    return pooled(net, buffer + a)


def resized(net, a, x):
    wide = F.interpolate(F.pad(a, (1, 1)), scale_factor=2, mode="bilinear")
    return pooled(net, F.avg_pool2d(torch.cat([wide, -wide], 1)[:, 2:8], 2))


def attended_by_the_image(net, a, x):
    gate = x.mean((2, 3), keepdim=True).softmax(1).repeat(1, 2, 1, 1)
    return pooled(net, a * gate / (1 + gate))


def skipping(net, a, x):
    return pooled(net, torch.relu(net.stem(x)) + a)


def picked(net, a, x):
    where = torch.tensor([3, 1, 0, 2, 5, 4])
    return pooled(net, a.index_select(1, where) + torch.where(where[0] > 2, a, -a))


AFFINE = {
    "pooled linear head": lambda net, a, x: pooled(net, a),
    "adaptive pooling and flatten": via_flatten,
    "batch norm": lambda net, a, x: pooled(net, net.norm(a)),
    "1x1 convolution": lambda net, a, x: pooled(net, net.point(a)),
    "batch norm, convolution": lambda net, a, x: pooled(net, net.point(net.norm(net.wide(a)))),
    "in place": in_place,
    "resized, padded, cut": resized,
    "a gate from elsewhere": attended_by_the_image,
    "a skip around it": skipping,
    "constant indices": picked,
    "einsum": lambda net, a, x: torch.einsum("ncij,kc->nk", a, net.head.weight),
    "dropout in eval mode": lambda net, a, x: pooled(net, F.dropout(a, 0.5, net.training)),
    "one place": lambda net, a, x: net.head(a[:, :, 2, 3]),
}

REFUSED = {
    "A times A": lambda net, a, x: pooled(net, a * a),
    "A times another reading of A": lambda net, a, x: pooled(net, a * net.point(a)),
    "A matrix A": lambda net, a, x: pooled(net, a @ a.transpose(2, 3) @ torch.ones_like(a)),
    "A detached times A": lambda net, a, x: pooled(net, a * a.detach()),
    "A detached": lambda net, a, x: pooled(net, a + a.detach()),
    "A's data": lambda net, a, x: pooled(net, a + a.data),
    "a gate from A": lambda net, a, x: pooled(net, torch.sigmoid(a)),
    "a detached gate": lambda net, a, x: pooled(net, a * (a.detach() > 0)),
    "an index from A": lambda net, a, x: pooled(net, a.gather(1, a.argsort(1))),
    "the largest of A": lambda net, a, x: net.head(a.flatten(2).amax(2)),
    "a branch on A": lambda net, a, x: pooled(net, a if a.sum() > 0 else -a),
    "a number from A": lambda net, a, x: pooled(
        net, torch.stack([one * float(one.mean()) for one in a])
    ),
    "a list from A": lambda net, a, x: pooled(
        net, torch.stack([one * one.mean((1, 2)).tolist()[0] for one in a])
    ),
    "ReLU": lambda net, a, x: pooled(net, torch.relu(a)),
    "hard swish": lambda net, a, x: pooled(net, F.hardswish(a)),
    "max pooling": lambda net, a, x: pooled(net, F.max_pool2d(a, 2)),
    "layer norm": lambda net, a, x: pooled(net, F.layer_norm(a, a.shape[1:])),
    "attention": lambda net, a, x: pooled(
        net, F.scaled_dot_product_attention(*[a.flatten(2)] * 3).unflatten(2, a.shape[2:])
    ),
    "division by A": lambda net, a, x: pooled(net, 1 / (3 + a.abs())),
    "rounding": lambda net, a, x: pooled(net, torch.div(a, 0.1, rounding_mode="floor")),
    "an integer": lambda net, a, x: pooled(net, a.int().double() + a),
    "weights from A": lambda net, a, x: pooled(
        net,
        torch.cat([F.conv2d(one[None], one[:, None, :1, :1].expand(6, 6, 1, 1)) for one in a]),
    ),
    "softmax of the scores": lambda net, a, x: pooled(net, a).softmax(1),
}


def ask(net, x=None, target=1, layer="layer", **words):
    """What `capture.affine` gave, and the explanation."""
    kept = []

    def look(capture):
        kept.extend([capture.affine, capture.activations, capture.score])
        return capture.activations.sum(1)

    words.setdefault("registry", registry())
    found = explain(net, images(2) if x is None else x, spy(look, NEEDS), target, layer, **words)
    return (*kept, found)


@pytest.mark.parametrize("rest", AFFINE.values(), ids=AFFINE)
def test_what_is_affine_has_its_gradient(rest):
    net, x = Net(rest), images(2)
    with unchanged(net, x):
        gradient, a, score, found = ask(net, x)
    assert gradient is not None, found.provenance.notes
    change = torch.randn(a.shape, generator=torch.Generator().manual_seed(5), dtype=a.dtype)
    with torch.no_grad():
        moved = rest(net, (a + change).clone(), x)[:, 1]
    close(moved[None], (score + (gradient * change).flatten(1).sum(1))[None], 1e-10)
    assert "the score is affine in it" in found.provenance.notes[-1]
    assert not gradient.requires_grad


@pytest.mark.parametrize("rest", REFUSED.values(), ids=REFUSED)
def test_what_is_not_affine_is_refused(rest):
    net, x = Net(rest), images(2)
    with unchanged(net, x):
        gradient, *_, found = ask(net, x)
    assert gradient is None
    assert "not known to be affine" in " ".join(found.provenance.notes)


def test_a_derivative_that_lies_is_found_by_changed_rows():
    gradient, *_, found = ask(Net(lambda net, a, x: pooled(net, Backwards.apply(a))))
    assert gradient is None
    assert "scored otherwise" in found.provenance.notes[-1]


def test_targets_take_part():
    net = Net(AFFINE["pooled linear head"])
    for target, accepted in [
        (2, True),
        ([0, 3], True),
        ("pred", True),
        (lambda out: out[0] - out[1], True),
        (lambda out: out.max(), False),
        (lambda out: out[int(out.argmax())], False),
        (lambda out: out.softmax(0)[1], False),
        (lambda out: out[0] * out[1], False),
    ]:
        assert (ask(net, target=target)[0] is not None) == accepted, target


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_have_other_tolerances(dtype):
    net, x = Net(AFFINE["batch norm, convolution"]).to(dtype), images(2, dtype=dtype)
    gradient, *_ = ask(net, x)
    assert gradient is not None
    assert gradient.dtype == torch.float32
    wanted, *_ = ask(Net(AFFINE["batch norm, convolution"]))
    torch.testing.assert_close(
        gradient.double(), wanted, rtol=0.05, atol=0.05 * float(wanted.std())
    )


def test_channels_last_layers():
    class Last(Net):
        def forward(self, x):
            return pooled(self, self.mix(self.stem(x).movedim(1, -1)).movedim(-1, 1))

        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(6, 6).double()

    gradient, a, *_ = ask(Last(), layer="mix", reshape=ChannelsLast())
    assert gradient.shape == a.shape == (2, 6, 7, 10)
    assert float(gradient.std()) > 1e-4


def test_the_gradient_is_the_plain_one_and_ablation_follows_from_it():
    net, x = Net(AFFINE["batch norm"]), images(2)
    seen = {}

    def look(capture):
        a, gradient = capture.activations, capture.affine
        rows = a.repeat_interleave(6, 0)
        rows[torch.arange(12), torch.arange(12) % 6] = 0
        owner = torch.arange(2).repeat_interleave(6)
        seen["run"] = capture.score[owner] - capture.tail(TensorRows(rows, owner))
        seen["closed"] = (gradient * a).flatten(2).sum(2).flatten()
        seen["gradient"], seen["plain"] = gradient, capture.gradients
        return a.sum(1)

    explain(net, x, spy(look, NEEDS | Need.GRADIENTS), 1, "layer", registry=registry())
    torch.testing.assert_close(seen["run"], seen["closed"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen["gradient"], seen["plain"], rtol=1e-12, atol=1e-15)


def test_a_score_that_does_not_depend_on_the_layer_has_gradient_zero():
    gradient, *_ = ask(Net(lambda net, a, x: net.head(net.stem(x).mean((2, 3)))))
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_it_is_found_out_once_per_call():
    net, count = Net(AFFINE["pooled linear head"]), []

    def look(capture):
        assert capture.affine is capture.affine
        return capture.activations.sum(1)

    found = explain(net, images(2), spy(look, NEEDS), 1, "layer", registry=registry())
    count.append((found.provenance.tails, found.provenance.backwards))
    assert count == [(5, 1)]  # four trials of the tail, the watched run of changed rows


def test_the_switch_for_measurements():
    net = Net(AFFINE["pooled linear head"])
    with without_certificate():
        assert ask(net)[0] is None
    assert ask(net)[0] is not None


def test_where_the_tail_cannot_be_trusted_there_is_no_certificate():
    # The images of a batch take part in one another's scores.
    gradient, *_, found = ask(Net(lambda net, a, x: pooled(net, a) + a.mean()))
    assert gradient is None
    assert found.provenance.notes[-1].startswith("SLOW")


def test_it_needs_to_be_declared():
    with pytest.raises(CapabilityError, match="TAIL"):
        explain(
            Net(AFFINE["pooled linear head"]),
            images(2),
            spy(lambda c: c.affine.sum(1), Need.ACTIVATIONS),
            1,
            "layer",
            registry=registry(),
        )
