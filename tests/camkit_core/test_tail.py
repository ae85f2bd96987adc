"""From a layer on: what finished before it does not run again, and the scores are the same."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, Chain, fill, images
from core_proof.snapshot import unchanged
from core_proof.tails import NEEDS, OWNER, asked, by_hand, changed, check, slow
from core_proof.zoo import TWICE, ZOO, build
from torch import nn

from camkit_core import BudgetError, ChannelsLast, Need, TensorRows, compare, explain

ROWS_APART = ("Recurrent", "late")
"""A module before the layer returns every row of pixels as a row of the batch."""


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layer", ["layer", "late"])
def test_networks_with_one_habit_each(kind, layer):
    check(build(kind), images(2), layer, tail=(kind.__name__, layer) != ROWS_APART)


@pytest.mark.parametrize("kind", TWICE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("call", [0, 1])
def test_calls_of_a_reused_layer_are_counted(kind, call):
    check(build(kind), images(2), f"late#{call}")


class Stepped(nn.Module):
    """One activation module for every step, inside and outside of a block; `block.b` is late."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.act = nn.SiLU()
        self.side = nn.Conv2d(6, 6, 1)
        self.block = nn.Sequential()
        self.block.add_module("a", nn.Conv2d(6, 6, 3, padding=1))
        self.block.add_module("act", self.act)
        self.block.add_module("b", nn.Conv2d(6, 6, 3, padding=1))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        z = self.act(self.stem(x))
        y = self.act(self.block(z) + self.side(z))
        return self.head((y * self.act(z)).mean((2, 3)))


@pytest.mark.parametrize("layer", ["stem", "act#0", "block.a", "block.b", "block", "side", "act#2"])
def test_modules_shared_between_levels(layer):
    check(fill(Stepped()).eval(), images(2), layer)


def test_a_call_that_happens_inside_a_module_beside_the_layer_takes_the_whole_model():
    found = check(fill(Stepped()).eval(), images(2), "act#1", tail=False)
    assert "also runs inside another module" in slow(found)[0]


def test_only_what_comes_after_the_layer_runs():
    net, x = fill(Stepped()).eval(), images(2)
    ran = Counter()
    for name in ("stem", "side", "head"):
        getattr(net, name).register_forward_hook(lambda m, a, o, name=name: ran.update([name]))
    _, _, first = asked(net, x, "block", batch_size=1)
    # Once for the call, once for the trial by the whole model; four tails of the trial, and five.
    assert ran == {"stem": 2, "side": 2 + 4 + 5, "head": 2 + 4 + 5}
    assert (first.provenance.forwards, first.provenance.tails) == (2, 9)


def test_the_trial_is_made_once_per_model_layer_and_shape():
    net = fill(Stepped()).eval()
    made = [
        asked(net, x, layer)[2].provenance.forwards
        for x, layer in [
            *[(images(2), "block"), (images(2, seed=1), "block"), (images(2), "stem")],
            *[(images(2)[..., 1:], "block"), (images(2)[..., 1:], "block")],
        ]
    ]
    assert made == [2, 1, 2, 2, 1]


class Writes(nn.Module):
    """Code outside of modules writes into what a module returned, before and after `block`."""

    def __init__(self, when) -> None:
        super().__init__()
        self.when = when
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.other = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True))
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.stem(x)
        keep = self.other(z.clone())
        if self.when == "before":
            z.mul_(z.sigmoid())
        y = self.block(z)
        if self.when == "after":
            z.mul_(0.5)
            keep += y
        if self.when == "rows":
            y.mul_(y.sigmoid())
        return self.head((self.last(y) + keep + z).mean((2, 3)))


@pytest.mark.parametrize(("when", "recorded"), [("before", 1), ("after", 1), ("rows", 0)])
def test_code_that_writes_in_place_is_met_by_copies(when, recorded):
    net, x = Writes(when), images(2)
    first = check(net, x, "block")
    again = check(net, x, "block")
    assert first.provenance.forwards == 2 + recorded
    assert again.provenance.forwards == 1
    assert float(first.raw["block"].std()) > 0


def test_rows_are_not_written_to():
    net, x, kept = Writes("rows"), images(2), []

    def look(capture):
        rows = changed(capture.activations)
        kept.extend([rows.clone(), rows])
        capture.tail(TensorRows(rows, OWNER))
        return capture.activations.sum(1)

    explain(net, x, spy(look, NEEDS), 1, "block", registry=registry())
    assert torch.equal(*kept)


class Remembers(nn.Conv2d):
    def forward(self, x):
        self.seen = x.mean((2, 3))
        return super().forward(x)


class ReadsBack(nn.Module):
    """Reads what a module kept of its call, which a module that is not run does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Remembers(3, 6, 3, padding=1)
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(9, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        y = torch.tanh(self.block(self.stem(x)))
        return self.head(torch.cat([y.mean((2, 3)), self.stem.seen], 1))


def test_where_the_rest_cannot_run_alone_the_whole_model_runs_and_it_is_said():
    net, x = ReadsBack(), images(2)
    net(x[:1])
    del net.stem.seen
    scores, rows, found = asked(net, x, "block")
    net.stem.seen = None
    torch.testing.assert_close(scores, by_hand(net, x, "block", rows), rtol=1e-10, atol=1e-12)
    assert "Error: " in slow(found)[0]
    assert [issue.code for issue in found.issues] == ["slow_tail"]
    assert found.provenance.tails == 0


class Silent(ReadsBack):
    """The same, but what it reads is there from an earlier run: no error, only other scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.seen = torch.full((1, 3), 0.7, dtype=torch.float64)

    def forward(self, x):
        y = torch.tanh(self.block(self.stem(x)))
        return self.head(torch.cat([y.mean((2, 3)), self.stem.seen.expand(len(x), 3)], 1))


def test_another_answer_without_an_error_is_noticed():
    net, x = Silent(), images(2)
    scores, rows, found = asked(net, x, "block")
    torch.testing.assert_close(scores, by_hand(net, x, "block", rows), rtol=1e-10, atol=1e-12)
    assert "differed" in slow(found)[0]


class Hidden(nn.Module):
    """A module before the layer returns an object that camkit cannot look into."""

    class Wrap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, x):
            return SimpleNamespace(tensor=self.conv(x))

    def __init__(self) -> None:
        super().__init__()
        self.wrap, self.block = self.Wrap(), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.wrap(x).tensor
        return self.head((torch.tanh(self.block(z)) * z).mean((2, 3)))


def test_calls_that_return_unknown_objects_are_made_again():
    check(Hidden(), images(2), "block")


class Views(nn.Module):
    """`view` fails on values that were repeated without memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.stem(x)
        y = torch.tanh(self.block(z)) + z.view(-1).reshape(z.shape)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_recorded_values_get_memory_of_their_own_where_they_need_it(batch):
    # Three images, but all rows belong to one: they are spread in another way.
    net, x, kept = Views(), images(batch), []

    def look(capture):
        rows = changed(capture.activations[[0, 0]]) if batch == 1 else changed(capture.activations)
        owner = OWNER * (batch == 2)
        kept.append(capture.tail(TensorRows(rows, owner)))
        with torch.no_grad():
            z = net.stem(x)[owner]
            kept.append(net.head((torch.tanh(rows) + z).mean((2, 3)))[:, 1])
        return capture.activations.sum(1)

    found = explain(net, x, spy(look, NEEDS), 1, "block", registry=registry())
    torch.testing.assert_close(*kept, rtol=1e-10, atol=1e-12)
    assert not slow(found)


class Tokens(nn.Module):
    """`[N, T + 1, C]` with a class token, and `[N, H, W, C]`."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.block = nn.Linear(6, 6)
        self.mix = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.patch(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.token.expand(len(x), -1, -1), z], 1)
        z = self.block(z)
        z = (z + self.mix(z, z, z)[0])[:, 1:].unflatten(1, (3, 5))
        return self.head(torch.tanh(self.last(z)).mean((1, 2)))


class Grid:
    """Class token first, then 3 x 5 places."""

    def to_spatial(self, output, /):
        return output[:, 1:].transpose(1, 2).unflatten(2, (3, 5))

    def from_spatial(self, maps, like, /):
        return torch.cat([like[:, :1], maps.flatten(2).transpose(1, 2)], 1)


def test_tokens_and_channels_last_go_through_the_reshape():
    net, x = Tokens(), images(2)[:, :, :6]
    with torch.no_grad():
        classes = [net.block(net.token)] * 5
    rows = iter(classes)
    check(net, x, "block", reshape=Grid(), put=lambda row: Grid().from_spatial(row, next(rows)))
    check(net, x, "last", reshape=ChannelsLast(), put=lambda row: row.movedim(1, -1))


def test_a_user_s_own_hooks_act_once():
    net, x = Chain(), images(2)
    net.stem.register_forward_hook(lambda m, a, out: 2 * out)
    net.neck.register_forward_hook(lambda m, a, out: out + 1)
    check(net, x, "body")


def test_several_layers_of_one_call():
    net, x = fill(Stepped()).eval(), images(2)
    kept = {}

    def look(capture):
        for layer in capture.layers:
            rows = changed(capture[layer].activations)
            kept[layer] = capture[layer].tail(TensorRows(rows, OWNER)), rows
        return capture[capture.layers[0]].activations.sum(1)

    layers = ["block.a", "block", "stem"]
    needs = NEEDS | Need.LAYERS
    explain(net, x, spy(look, needs), 1, layers, registry=registry())
    for layer in layers:
        scores, rows = kept[layer]
        torch.testing.assert_close(scores, by_hand(net, x, layer, rows), rtol=1e-10, atol=1e-12)


def test_the_trial_counts_against_the_budget():
    with pytest.raises(BudgetError, match=r"takes 1.*budget=1"):
        asked(fill(Stepped()).eval(), images(2), "block", budget=1)


class Stop(Exception):
    """Something that goes wrong in the middle."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("kind", ["tail", "scores"])
def test_an_interruption_leaves_everything_and_names_what_finished(error, kind):
    net, x = fill(Stepped()).eval(), images(2)

    def look(capture):
        class Rows(TensorRows):
            def __getitem__(self, rows, /):
                if rows.start == 3:
                    raise error("stop")
                return super().__getitem__(rows)

        what = capture.activations if kind == "tail" else capture.inputs
        getattr(capture, kind)(Rows(what[OWNER], OWNER))
        return capture.activations.sum(1)

    method = spy(look, NEEDS | Need.SCORES)
    with unchanged(net, x), pytest.raises(error) as caught:
        compare(net, x, [method, "gradcam"], [1], "block", batch_size=1, registry=registry())
    notes = "\n".join(caught.value.__notes__)
    assert "3 of 5 rows" in notes
    assert "in spy of class 1; finished before: gradcam of class 1" in notes


def test_two_threads_at_once_agree_with_one():
    net = fill(Stepped()).eval()
    jobs = [(images(2, seed=seed), layer) for seed in range(4) for layer in ("block", "act#2")]
    alone = [asked(net, *job)[0] for job in jobs]
    gate = threading.Barrier(2)
    fresh = fill(Stepped()).eval()

    def worker(part):
        gate.wait()
        return [asked(fresh, *job)[0] for job in jobs[part::2]]

    with ThreadPoolExecutor(2) as pool:
        odd = list(pool.map(worker, range(2)))
    for part in range(2):
        for found, wanted in zip(odd[part], alone[part::2], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
