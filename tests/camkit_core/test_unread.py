"""Outputs before a layer that nothing behind it reads are not kept, and are had when needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, fill, images
from core_proof.tails import NEEDS, asked, by_hand, check, slow
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from camkit_core import TensorRows, explain
from camkit_core.unread import Flag, Placeholder, Reads, UnreadError


class Reading(nn.Module):
    """What `stem` returns goes through `middle`, and `reads` may read it behind the layer."""

    def __init__(self, reads=None) -> None:
        super().__init__()
        self.reads = reads
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.middle = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Tanh())
        self.layer = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.stem(x)
        y = torch.tanh(self.layer(self.middle(z)))
        extra = self.reads(z) if self.reads else 0
        return self.head((y + extra).mean((2, 3)))


def swallowed(z):
    try:
        return z.sigmoid()
    except Exception:  # whatever it is
        return 0


READS = {
    "value": lambda z: z.sigmoid(),
    "shape": lambda z: z.shape[-1] / 10,
    "length of the shape": lambda z: z.dim() / 10,
    "into a new module": lambda z: nn.functional.conv2d(z, torch.ones(6, 6, 1, 1).to(z)),
    "swallowed": swallowed,
}


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
def test_what_is_always_read_is_kept(reads):
    first = check(Reading(reads), images(2), "layer")
    assert first.provenance.forwards == 2


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
def test_what_is_read_all_of_a_sudden_is_recorded_again_and_from_then_on(reads):
    net, x = Reading(), images(2)
    check(net, x, "layer")
    net.reads = reads
    made = []
    for _ in range(2):
        scores, rows, found = asked(net, x, "layer")
        torch.testing.assert_close(scores, by_hand(net, x, "layer", rows), rtol=1e-10, atol=1e-12)
        assert not slow(found)
        made.append(found.provenance.forwards)
    assert made == [2, 1]


def test_outputs_that_are_part_of_the_answer_are_kept():
    class Two(Reading):
        def forward(self, x):
            z = self.stem(x)
            return {"scores": self.head(self.layer(self.middle(z)).mean((2, 3))), "features": z}

    net, x = Two(), images(2)
    words = {"output": "scores"}
    calls = [asked(net, x, "layer", **words) for _ in range(2)]
    assert [found.provenance.forwards for *_, found in calls] == [2, 1]
    torch.testing.assert_close(calls[1][0], calls[0][0])


class Passing(Reading):
    """Holds nothing itself."""

    def forward(self, x):
        x = self.stem(x)
        x = self.middle(x)
        x = self.layer(x)
        return self.head(x.mean((2, 3)))


def test_memory_before_the_layer_is_free_while_the_layer_runs():
    net, x, made, gone = Passing(), images(2), [], []
    net.stem.register_forward_hook(
        lambda module, args, output: made.append(StorageWeakRef(output.untyped_storage()))
    )
    net.layer.register_forward_hook(lambda *_: gone.append(made[-1].expired()))
    asked(net, x, "layer")
    assert gone[0] is False, "nothing is known yet"
    gone.clear()
    asked(net, x, "layer")
    assert gone[0] is True


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize(
    "use",
    [
        lambda z: z + 1,
        lambda z: torch.ones(2) * z,
        lambda z: z.shape,
        len,
        lambda z: z[0],
        lambda z: z.data,
        lambda z: z.numpy(),
        lambda z: nn.Linear(2, 2)(z),
        lambda z: torch.jit.script(nn.ReLU())(z),
        lambda z: torch.ops.aten.relu(z),
        lambda z: torch.ops.aten.relu.default(z),
        torch.jit.CompilationUnit("def rows(z: Tensor) -> int:\n    return z.size(0)\n").rows,
    ],
)
def test_a_placeholder_tells_of_every_use(use):
    flag = Flag()
    placeholder = Placeholder(torch.ones(2), flag)
    assert not flag.raised
    with pytest.raises((UnreadError, RuntimeError)):  # scripted code wraps what it meets
        use(placeholder)
    assert flag.raised


@pytest.mark.parametrize(
    "use", [lambda z: z + 1, lambda z: z.shape, len, lambda z: torch.ops.aten.relu.default(z)]
)
def test_reads_are_noticed(use):
    reads, one, other = Reads(), torch.ones(2), torch.zeros(3)
    reads.hand("one", one)
    reads.hand("other", other)
    with reads:
        use(one)
    assert reads.unread == {"other"}
    reads.read({"part of the output": other})
    assert reads.unread == frozenset()


# --- what a review broke ----------------------------------------------------------------------


def right(net, x, layer="layer", **words):
    """Scores of a call are those by hand; the explanation."""
    scores, rows, found = asked(net, x, layer, **words)
    torch.testing.assert_close(scores, by_hand(net, x, layer, rows), rtol=1e-10, atol=1e-12)
    assert not slow(found)
    return found


class Branching(nn.Module):
    """Takes another way if the first pixel says so."""

    def __init__(self, other) -> None:
        super().__init__()
        self.inner, self.other = Reading(), other
        self.eval()

    def forward(self, x):
        self.inner.reads = self.other if float(x[0, 0, 0, 0]) > 5 else None
        return self.inner(x)


OTHERS = {
    "in place": lambda z: z.add_(1),
    "scripted": torch.jit.CompilationUnit(
        "def dims(z: Tensor) -> float:\n    return float(z.dim()) / 10\n"
    ).dims,
    "scripted list": lambda z: torch.jit.CompilationUnit(
        "def dims(z: List[Tensor]) -> float:\n    return float(z[0].size(3)) / 10\n"
    ).dims([z]),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("flagged", [False, True])
def test_another_way_through_the_model_is_noticed_whatever_it_does(other, flagged):
    """Because of the image, or because somebody changed the network between two calls."""
    x = images(2)
    y = x.clone()
    y[:, 0, 0, 0] = 6
    net = Reading() if flagged else Branching(other)
    layer = "layer" if flagged else "inner.layer"
    right(net, x, layer)
    if flagged:
        net.reads, y = other, x
    right(net, y, layer)
    right(net, y, layer)


@pytest.mark.parametrize(
    "look", [lambda z: 1.0 * (type(z) is torch.Tensor), torch.overrides.is_tensor_like]
)
def test_code_that_looks_at_types_is_answered_rightly_from_the_start(look):
    check(Reading(look), images(2), "layer")


class Grown(Reading):
    """A part of the answer is added, or the answer is an object of the model's own."""

    more = opaque = False

    def forward(self, x):
        z = self.stem(x)
        scores = self.head(self.layer(self.middle(z)).tanh().mean((2, 3)))
        if self.opaque:
            return SimpleNamespace(scores=scores, features=z)
        return {"scores": scores, "features": z} if self.more else {"scores": scores}


def test_an_output_may_join_the_answer_later():
    net, x = Grown(), images(2)
    made = []
    for more in (False, True, True):
        net.more = more
        made.append(asked(net, x, "layer", output="scores"))
    assert [found.provenance.forwards for *_, found in made] == [2, 2, 1]
    for scores, *_ in made[1:]:
        torch.testing.assert_close(scores, made[0][0])


@pytest.mark.parametrize("before", [False, True])
def test_an_answer_that_nobody_can_look_into_keeps_everything(before):
    net, x, calls = Grown(), images(2), []
    for opaque in (before, True, True):
        net.opaque = opaque
        if not opaque:
            asked(net, x, "layer", output="scores")
            continue
        both = lambda o: o.scores + o.features.mean((1, 2, 3))[:, None]  # noqa: E731
        calls.append(asked(net, x, "layer", output=both)[0])
    fresh = Grown()
    fresh.opaque = True
    for scores in calls:
        torch.testing.assert_close(scores, asked(fresh, x, "layer", output=both)[0])


class Sized(Reading):
    """Large pictures are read twice."""

    def forward(self, x):
        self.reads = torch.sigmoid if x.shape[-1] > 10 else None
        return super().forward(x)


def test_other_shapes_are_tried_in_full():
    net, small, large = Sized(), images(2)[..., :8], images(2)
    assert large.shape[-1] == 10
    large = torch.cat([large, large], 3)
    made = [right(net, x).provenance.forwards for x in (small, large, small, large)]
    assert made == [2, 2, 1, 1]


class Block(nn.Module):
    """Two convolutions, with or without the first one's output added in the end."""

    def __init__(self, first, layer, skip) -> None:
        super().__init__()
        self.first, self.layer, self.skip = first, layer, skip

    def forward(self, x):
        y = self.first(x)
        return self.layer(y).tanh() + self.skip * y if self.skip else self.layer(y).tanh()


def test_an_exchanged_module_is_tried_in_full():
    net, x = Passing(), images(2)
    first, layer = net.middle, net.layer
    net.middle = nn.Identity()
    net.layer = Block(first, layer, 0)
    right(net, x, "layer.layer")
    net.layer = Block(first, layer, 1).eval()
    right(net, x, "layer.layer")
    assert right(net, x, "layer.layer").provenance.forwards == 1


@pytest.mark.parametrize("ask", ["affine", "multipliers"])
def test_what_is_watched_begins_again_when_something_was_missing(ask):
    class Missing(Reading):
        def forward(self, x):
            z = self.stem(x)
            y = self.layer(self.middle(z))
            y = torch.relu(y) if ask == "multipliers" else y
            try:
                y = y + z if self.reads else y
            except Exception:  # whatever it is
                y = torch.relu(y)
            return self.head(y.mean((2, 3)))

    def look(capture):
        if ask == "affine":
            found.append(capture.affine)
        else:
            found.append(capture.multipliers(torch.zeros_like(capture.activations)))
        return capture.activations.sum(1)

    net, x, found = Missing(), images(2), []
    for reads in (None, True, True):
        net.reads = reads
        explain(net, x, spy(look, NEEDS), 1, "layer", registry=registry())
    assert all(one is not None for one in found)
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])


class Normalizing(Reading):
    """Writes to what it is called with, in a way that does not mind memory shared by rows."""

    def forward(self, x):
        x[x > 1] -= 1
        return super().forward(x)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_images_are_never_written_to(count):
    def look(capture):
        kept.append(capture.affine)
        a = capture.activations
        rows = TensorRows(a.flip(0) * 0.5, torch.arange(len(a)))
        kept.append(capture.tail(rows))
        kept.append(capture.tail(rows))
        return a.sum(1)

    net, x = Normalizing(), 2 * images(5)[:count]
    kept, before = [], x.clone()
    for _ in range(2):
        explain(net, x, spy(look, NEEDS), 1, "layer", registry=registry())
        assert torch.equal(x, before)
    scores = [one for one in kept if one is not None]
    for one in scores[1:]:
        torch.testing.assert_close(one, scores[0], rtol=1e-10, atol=1e-12)


class Tabled(Reading):
    """A value without an axis of images is written to behind the layer."""

    class Table(nn.Module):
        def forward(self):
            return torch.full((6, 1, 1), 0.5, dtype=torch.float64)

    def __init__(self) -> None:
        super().__init__()
        self.table = Tabled.Table()

    def forward(self, x):
        table = self.table()
        y = torch.tanh(self.layer(self.stem(x)))
        table += 1
        return self.head((y * table).mean((2, 3)))


def test_values_without_an_axis_of_images_are_not_written_to():
    def look(capture):
        rows = TensorRows(capture.activations * 0.5, torch.zeros(1, dtype=torch.long))
        kept.extend([capture.tail(rows), capture.tail(rows)])
        return capture.activations.sum(1)

    net, x, kept = Tabled(), images(1), []
    for _ in range(2):
        explain(net, x, spy(look, NEEDS), 1, "layer", registry=registry())
    for one in kept[1:]:
        torch.testing.assert_close(one, kept[0], rtol=1e-12, atol=1e-14)
