"""Scores of perturbed images and of changed activations, in chunks of any size."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, Chain, fill, images
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import BudgetError, CamkitError, Need, TensorRows, explain

NEEDS = Need.ACTIVATIONS | Need.SCORES | Need.TAIL | Need.RECAPTURE


def told(net, x, look, layers="body", target=1, **words):
    """What `look(capture)` returned inside one call."""
    found = []

    def method(capture):
        found.append(look(capture))
        return capture.inputs.sum(1)

    words.setdefault("registry", registry())
    explain(net, x, spy(method, NEEDS), target, layers, **words)
    return found[0]


class Lazy:
    """Rows that exist when they are asked for, and note which were."""

    def __init__(self, source, owner, gains) -> None:
        self.source, self.owner, self.gains, self.asked = source, owner, gains, []

    def __len__(self):
        return len(self.owner)

    def __getitem__(self, rows, /):
        self.asked.append((rows.start, rows.stop))
        some = self.source[self.owner[rows]]
        return some * self.gains[rows].reshape(-1, *[1] * (some.ndim - 1))


OWNER = torch.tensor([1, 0, 2, 2, 0, 1, 1, 2, 0, 0, 1])
GAINS = torch.linspace(-1, 2, len(OWNER), dtype=torch.float64)


def ask(kind, batch_size, **words):
    asked = []

    def look(capture):
        source = capture.activations if kind == "tail" else capture.inputs
        rows = Lazy(source, OWNER, GAINS)
        scores = getattr(capture, kind)(rows)
        asked.extend(rows.asked)
        return scores

    return told(Chain(), images(3), look, batch_size=batch_size, **words), asked


@pytest.mark.parametrize("kind", ["scores", "tail"])
@pytest.mark.parametrize("target", [2, [0, 3, 1], lambda out: out[0] * out[1], "pred"])
@pytest.mark.parametrize("batch_size", [1, 3, 11, 500, None])
def test_scores_do_not_depend_on_the_chunks(kind, target, batch_size):
    whole, _ = ask(kind, len(OWNER), target=target)
    found, asked = ask(kind, batch_size, target=target)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-14)
    assert float(whole.std()) > 1e-3
    size = batch_size or 8
    starts = range(0, len(OWNER), size)
    assert asked == [(start, min(start + size, len(OWNER))) for start in starts]


@pytest.mark.parametrize("kind", ["scores", "tail"])
def test_scores_equal_the_network_by_hand(kind):
    net, x = Chain(), images(3)
    gains = GAINS[:, None, None, None]
    found, _ = ask(kind, 4, target=[0, 3, 1])
    if kind == "tail":
        output = net.after("body", net.until("body", x)[OWNER] * gains)
    else:
        output = net(x[OWNER] * gains)
    classes = torch.tensor([0, 3, 1])[OWNER]
    torch.testing.assert_close(
        found, output.detach().gather(1, classes[:, None])[:, 0], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("kind", ["scores", "tail"])
def test_no_rows_give_no_scores_and_no_forward(kind):
    def look(capture):
        source = capture.activations if kind == "tail" else capture.inputs
        return getattr(capture, kind)(TensorRows(source[:0], torch.zeros(0, dtype=torch.long)))

    assert told(Chain(), images(), look, budget=1).shape == (0,)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_scores_carry_no_graph_and_work_in_any_mode(mode):
    net, x = Chain(), images(2)

    def look(capture):
        owner = torch.arange(2)
        return torch.stack(
            [
                capture.tail(TensorRows(capture.activations, owner)),
                capture.scores(TensorRows(capture.inputs, owner)),
                capture.score,
            ]
        )

    with mode():
        found = told(net, x, look)
    assert not found.requires_grad
    torch.testing.assert_close(found[0], found[2], rtol=1e-13, atol=0)
    torch.testing.assert_close(found[1], found[2], rtol=1e-13, atol=0)


class Residual(nn.Module):
    """A block with a skip connection around what may be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh())
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = torch.tanh(self.stem(x))
        return self.head((self.block(z) + z).relu().mean((2, 3)) + x.mean((2, 3)).repeat(1, 2))


@pytest.mark.parametrize("layer", ["block", "block.0", "stem"])
def test_the_tail_keeps_the_paths_around_the_layer(layer):
    net, x = Residual(), images(2)
    owner = torch.tensor([1, 0, 1])

    def by_hand(a):
        z = torch.tanh(net.stem(x))[owner]
        if layer == "stem":
            z = torch.tanh(a)
        block = {"block": lambda: a, "block.0": lambda: torch.tanh(a)}.get(
            layer, lambda: net.block(z)
        )()
        pooled = (block + z).relu().mean((2, 3)) + x[owner].mean((2, 3)).repeat(1, 2)
        return net.head(pooled)[:, 1]

    found, changed = told(
        net,
        x,
        lambda c: (
            c.tail(TensorRows(c.activations.flip(3)[owner] * 0.5, owner)),
            c.activations.flip(3)[owner] * 0.5,
        ),
        layer,
    )
    torch.testing.assert_close(found, by_hand(changed).detach(), rtol=1e-12, atol=1e-14)


def test_rows_of_another_precision_are_brought_to_the_models():
    net, x = Chain().float(), images(2, dtype=torch.float32)
    owner = torch.arange(2)
    double, single = (
        told(
            net,
            x,
            lambda c, d=dtype: torch.stack(
                [
                    c.tail(TensorRows(c.activations.to(d), owner)),
                    c.scores(TensorRows(c.inputs.to(d), owner)),
                ]
            ),
        )
        for dtype in (torch.float64, torch.float32)
    )
    torch.testing.assert_close(double, single, rtol=1e-6, atol=1e-7)


def test_a_half_model_scores_rows_in_float32():
    net, x = Chain().bfloat16(), images(2, dtype=torch.bfloat16)
    owner = torch.arange(2)
    found = told(net, x, lambda c: c.tail(TensorRows(c.activations, owner)))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, net(x)[:, 1].float().detach())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(self.mix(self.patch(x).flatten(2).transpose(1, 2)).tanh().mean(1))


def test_a_recapture_reads_layers_as_the_call_does():
    net, x = Tokens(), images()[:, :, :6]

    def picture(out):
        return out.transpose(1, 2).unflatten(2, (3, 5))

    found = told(net, x, lambda c: c.at(c.inputs * 0.5).activations, "mix", reshape=picture)
    wanted = picture(net.mix(net.patch(x * 0.5).flatten(2).transpose(1, 2)))
    close(found, wanted.detach())


def test_a_recapture_of_another_number_of_images_is_refused():
    with pytest.raises(CamkitError, match=r"1.*2|2.*1"):
        told(Chain(), images(2), lambda c: c.at(c.inputs[1:]).score)


def test_a_recapture_counts_against_the_budget():
    with pytest.raises(BudgetError, match="budget=2"):
        told(
            Chain(),
            images(2),
            lambda c: [c.at(c.inputs * k).score for k in (0.1, 0.2, 0.3)],
            budget=2,
        )


def test_recaptures_of_recaptures_ask_the_same_question():
    net, x = Chain(seed=1), images(3, seed=1)
    classes = net(x).argmax(1)

    def look(capture):
        return capture.at(capture.inputs * 0.5).at(capture.inputs.flip(-1)).score

    with unchanged(net, x):
        found = told(net, x, look, target=None)
    wanted = net(x.flip(-1)).detach().gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
