"""Outputs before a layer that nothing behind it reads are not kept, and are had when needed."""

from __future__ import annotations

import pytest
import torch
from core_proof.networks import CLASSES, fill, images
from core_proof.tails import asked, by_hand, check, slow
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from camkit_core.unread import Placeholder, Reads, UnreadError


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
    ],
)
def test_a_placeholder_tells_of_every_use(use):
    placeholder = Placeholder()
    assert not placeholder.touched
    with pytest.raises(UnreadError):
        use(placeholder)
    assert placeholder.touched


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
