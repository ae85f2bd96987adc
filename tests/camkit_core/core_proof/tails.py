"""Changed rows of a layer, scored by camkit and by hand."""

from __future__ import annotations

from collections import Counter

import torch

from camkit_core import Need, TensorRows, explain
from core_proof.methods import registry, spy
from core_proof.snapshot import unchanged

NEEDS = Need.ACTIVATIONS | Need.TAIL
OWNER = torch.tensor([1, 0, 1, 1, 0])


def changed(clean):
    """Rows of both images in mixed order, none of them clean."""
    gains = torch.linspace(-1, 2, len(OWNER), dtype=clean.dtype)
    rows = clean.flip(-1)[OWNER] * gains.reshape(-1, *[1] * (clean.ndim - 1))
    rows[2, :, ::2] = 0
    return rows


def asked(net, x, layer, **words):
    """Scores of changed rows, the rows, and the explanation."""
    kept = []

    def look(capture):
        rows = changed(capture.activations)
        kept.extend([capture.tail(TensorRows(rows, OWNER)), rows])
        return capture.activations.sum(1)

    words.setdefault("registry", registry())
    found = explain(net, x, spy(look, NEEDS), 1, layer, **words)
    return kept[0], kept[1], found


def by_hand(net, x, layer, rows, put=lambda row: row):
    """The whole network, once per row, with a hook that exchanges one call's output."""
    path, _, call = layer.partition("#")
    scores = []
    for row, image in zip(rows, OWNER.tolist(), strict=True):
        seen = Counter()

        def exchange(module, args, output, row=row, seen=seen):
            seen["calls"] += 1
            return put(row[None]).clone() if seen["calls"] == int(call or 0) + 1 else None

        handle = net.get_submodule(path).register_forward_hook(exchange)
        try:
            with torch.no_grad():
                scores.append(net(x[image : image + 1])[0, 1])
        finally:
            handle.remove()
    return torch.stack(scores)


def slow(found):
    return [note for note in found.provenance.notes if note.startswith("SLOW")]


def check(net, x, layer, *, tail=True, put=lambda row: row, **words):
    """Scores of a first call, which tries, and of a second one, which knows, are those by hand."""
    with unchanged(net, x):
        calls = [asked(net, x, layer, **words) for _ in range(2)]
    wanted = by_hand(net, x, layer, calls[0][1], put)
    assert float(wanted.std()) > 1e-3, "nothing to compare"
    for scores, _, found in calls:
        torch.testing.assert_close(scores, wanted, rtol=1e-10, atol=1e-12)
        assert bool(slow(found)) != tail, found.provenance.notes
        assert (found.issues[0].code == "slow_tail" if found.issues else False) != tail
    return calls[0][2]
