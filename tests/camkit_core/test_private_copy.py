"""Perturbed images on a faster copy of the model: the same scores, and the model untouched."""

from __future__ import annotations

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, images
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import Need, TensorRows, explain
from camkit_core.precise import WORTH_IT, rank_correlation
from camkit_core.private import Recorded, folded

COUNT = WORTH_IT + 4


class Norms(nn.Module):
    """Every way a normalization can follow a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.plain_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.grouped_norm = nn.BatchNorm2d(8, affine=False)
        self.twice, self.twice_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.branch, self.branch_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.hooked, self.hooked_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.batch, self.batch_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.batch_norm.track_running_stats = False
        self.head = nn.Linear(8, CLASSES)
        generator = torch.Generator().manual_seed(0)
        for tensor in (*self.parameters(), *self.buffers()):
            if torch.is_floating_point(tensor):
                with torch.no_grad():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_var.abs_().add_(0.2)
        self.hooked.register_forward_hook(lambda m, a, out: out * 1.5)
        self.eval()

    def forward(self, x):
        x = torch.tanh(self.plain_norm(self.plain(x)))
        x = torch.tanh(self.grouped_norm(self.grouped(x)))
        x = torch.tanh(self.twice_norm(self.twice(self.twice(x))))
        split = self.branch(x)
        x = torch.tanh(self.branch_norm(split)) + split
        x = torch.tanh(self.hooked_norm(self.hooked(x)))
        return self.head(x.mean((2, 3)))


def test_only_a_normalization_that_alone_reads_a_convolution_is_taken_in():
    net, x = Norms(), images(1, dtype=torch.float32)
    recorded = Recorded(net)
    with torch.no_grad(), recorded.consumers:
        recorded.root(x)
    found = {(one, two) for one, two in recorded.pairs()}
    assert found == {(net.plain, net.plain_norm), (net.grouped, net.grouped_norm)}


def test_the_copy_answers_the_same_and_shares_nothing_that_changes():
    net, x = Norms(), images(3, dtype=torch.float32)
    with unchanged(net, x), torch.no_grad():
        copy = folded(net, [(net.plain, net.plain_norm), (net.grouped, net.grouped_norm)])
        found, wanted = copy(x), net(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert float(wanted.std()) > 1e-3
    assert not torch.equal(copy.plain.weight, net.plain.weight)


def ask(net, x, **words):
    kept = []

    def look(capture):
        generator = torch.Generator().manual_seed(0)
        masks = torch.rand(COUNT, 1, *x.shape[2:], generator=generator).to(x.dtype)
        owner = torch.arange(COUNT) % len(x)
        rows = capture.inputs[owner] * masks
        kept.extend([capture.scores(TensorRows(rows, owner)), rows])
        return capture.inputs.sum(1)

    words.setdefault("registry", registry())
    found = explain(net, x, spy(look, Need.SCORES), 1, **words)
    return (*kept, found.provenance.notes)


@pytest.mark.parametrize("train", [False, True])
def test_scores_of_many_images_are_those_of_the_model(train):
    net, x = Norms(), images(2, dtype=torch.float32)
    net.train(train)
    with unchanged(net, x):
        found, rows, _ = ask(net, x)
    with torch.no_grad():
        wanted = net.eval()(rows)[:, 1]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert float(wanted.std()) > 1e-4


def test_double_precision_is_never_reordered():
    net, x = Norms().double(), images(2)
    found, rows, notes = ask(net, x, batch_size=COUNT)
    with torch.no_grad():
        assert torch.equal(found, net(rows)[:, 1])
    assert not notes


def test_a_model_that_cannot_lie_channels_last_runs_as_it_is():
    class Rows(Norms):
        def forward(self, x):
            return super().forward(x) + self.plain(x).view(len(x), -1)[:, :1]

    net, x = Rows(), images(2, dtype=torch.float32)
    found, rows, notes = ask(net, x)
    with torch.no_grad():
        wanted = net(rows)[:, 1]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not any("copy" in note for note in notes)


def test_fast_says_how_well_it_agrees():
    net, x = Norms(), images(2, dtype=torch.float32)
    with unchanged(net, x):
        found, rows, notes = ask(net, x, precision="fast")
    with torch.no_grad():
        wanted = net(rows)[:, 1]
    off = (found - wanted).abs().max()
    assert 0 < off < 0.05 * wanted.abs().max()
    (note,) = (note for note in notes if "bfloat16" in note)
    assert f"on 32 of {COUNT} rows rank correlation" in note
    assert "largest score error" in note


def test_fast_changes_nothing_in_double_precision_and_says_so():
    net, x = Norms().double(), images(2)
    fast, _, notes = ask(net, x, precision="fast", batch_size=9)
    exact, _, _ = ask(net, x, batch_size=9)
    assert torch.equal(fast, exact)
    assert "changes nothing" in notes[0]


def test_rank_correlation():
    one = torch.tensor([0.1, 3.0, 2.0, -1.0])
    assert rank_correlation(one, 5 * one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, torch.tensor([0.0, 2.0, 3.0, -1.0])) == pytest.approx(0.8)


class Recurring(Norms):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        seen, _ = self.memory(torch.tanh(self.plain(x)).flatten(2).transpose(1, 2))
        return self.head(seen.mean(1))


@pytest.mark.parametrize("kind", [Norms, Recurring])
def test_differentiable_scores_reach_the_rows_and_never_the_parameters(kind):
    net, x, kept = kind().double(), images(2), {}

    def look(capture):
        with torch.enable_grad():
            gain = torch.ones(2, 1, *x.shape[2:], dtype=x.dtype, requires_grad=True)
            rows = TensorRows(capture.inputs * gain, torch.arange(2))
            scores = capture.scores(rows, differentiable=True)
            scores.sum().backward()
        kept["scores"], kept["gain"] = scores, gain.grad
        return capture.inputs.sum(1)

    with unchanged(net, x):
        explain(net, x, spy(look, Need.SCORES), 1, registry=registry())
    probe = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(probe)[:, 1].sum(), probe)
    torch.testing.assert_close(kept["gain"], (wanted * x).sum(1, keepdim=True))
    torch.testing.assert_close(kept["scores"], net(x)[:, 1])
    assert float(wanted.std()) > 1e-6
