"""Of two ways that agree the faster one is taken, and that is found out once."""

from __future__ import annotations

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images

from camkit_core import Need, TensorRows, explain, swift


def ask(net, count=300):
    """Tail scores of changed activations, and the runs from the layer on."""

    def look(capture):
        a = capture.activations
        rows = TensorRows(a.repeat(count, 1, 1, 1) * 0.5, torch.zeros(count, dtype=torch.long))
        return a.sum(1) * capture.tail(rows).mean()

    needs = Need.ACTIVATIONS | Need.TAIL
    found = explain(
        net, images(1), spy(look, needs), 1, "body", registry=registry(), batch_size=count
    )
    return found.raw["body"], found.provenance.tails


@pytest.mark.parametrize("faster", [True, False])
def test_layouts_are_tried_once_per_model(monkeypatch, faster):
    asked = []
    monkeypatch.setattr(swift, "_faster", lambda *words: bool(asked.append(1)) or faster)
    net = Chain()
    first, _ = ask(net)
    second, tails = ask(net)
    assert len(asked) == 1, "the stopwatch runs once per model"
    assert tails == 1, "the rows, at once"
    torch.testing.assert_close(second, first, rtol=1e-10, atol=1e-12)
