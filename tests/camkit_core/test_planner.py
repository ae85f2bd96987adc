"""Chunks of rows: their size, what happens when memory runs out, what is told and when."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images
from core_proof.snapshot import unchanged

from camkit_core import BudgetError, Need, OptionError, compare, explain
from camkit_core.meter import Flops, Memory
from camkit_core.planner import Growing, memory_limit

NEEDS = Need.ACTIVATIONS | Need.SCORES | Need.TAIL


@pytest.mark.parametrize(
    ("text", "amount"),
    [("512MB", 512_000_000), ("1.5 GiB", 3 * 2**29), ("64kb", 64_000), ("100 B", 100)],
)
def test_amounts_of_memory(text, amount):
    assert memory_limit(text) == amount


@pytest.mark.parametrize("text", ["", "512", "MB", "-1MB", "0 GB", "1 TB", "8 rows", "1e3MB"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(OptionError, match="'512MB'"):
        memory_limit(text)


class Many:
    """Masked images that exist while they are asked for, and note how many were."""

    def __init__(self, source, count, explode=lambda rows: None) -> None:
        self.source, self.asked, self.explode = source, [], explode
        self.owner = torch.arange(count) % len(source)
        self.masks = torch.rand(
            count, generator=torch.Generator().manual_seed(3), dtype=source.dtype
        )

    def __len__(self):
        return len(self.owner)

    def __getitem__(self, rows, /):
        self.asked.append(rows.stop - rows.start)
        self.explode(rows)
        masks = self.masks[rows].reshape(-1, *[1] * (self.source.ndim - 1))
        return self.source[self.owner[rows]] * masks


def ask(count=100, kind="scores", explode=lambda rows: None, net=None, **words):
    """Scores, the rows that were asked for, the explanation."""
    kept = []

    def look(capture):
        source = capture.inputs if kind == "scores" else capture.activations
        rows = Many(source, count, explode)
        kept.extend([getattr(capture, kind)(rows), rows.asked])
        return capture.activations.sum(1)

    words.setdefault("registry", registry())
    found = explain(net or Chain(), images(2), spy(look, NEEDS), 1, "body", **words)
    return (*kept, found)


@pytest.mark.parametrize("kind", ["scores", "tail"])
def test_the_scores_are_the_same_for_every_size(kind):
    wanted, *_ = ask(kind=kind, batch_size=100)
    for size in (1, 7, 1000, "1 B", "100kB", "1GB", None):
        found, *_ = ask(kind=kind, batch_size=size)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    close(wanted[None], wanted[None])


@pytest.mark.parametrize("kind", ["scores", "tail"])
@pytest.mark.parametrize("limit", [200_000, 1_000_000])
def test_memory_stays_below_the_limit_for_two_thousand_masks(kind, limit):
    ask(8, kind=kind)
    with Memory() as resting:
        ask(1, kind=kind, batch_size=1)
    with Memory() as memory:
        _, asked, _ = ask(2048, kind=kind, batch_size=f"{limit}B")
    assert memory.peak <= limit + resting.peak + 2048 * 8 * 4
    assert max(asked) > limit / 100_000, "hardly anything fits: the limit is not used"


def test_memory_of_tensors_is_counted_while_they_live():
    with Memory() as memory:
        one = torch.zeros(1000, dtype=torch.float64)
        view = one[:500].reshape(5, 100)
        two = view + 1
        del one, view
        gc.collect()
        three = two + 1
    assert memory.peak == 8000 + 4000
    assert three.numel() == 500


def test_arithmetic_is_counted():
    with Flops() as flops:
        torch.ones(3, 4) @ torch.ones(4, 5)
    assert flops.total == 2 * 3 * 4 * 5


def grown(cost, largest=1024):
    """Sizes tried where `cost(rows)` is what a chunk takes, and what is kept."""
    kept, tried = [], []
    sizes = Growing(8, largest, kept.append)
    for _ in range(20):
        tried.append(sizes.next())
        sizes.took(tried[-1], cost(tried[-1]))
    sizes.finish()
    return tried, kept


def test_the_size_doubles_while_that_pays_and_stays_where_it_was_best():
    tried, kept = grown(lambda rows: 90 + rows)
    assert tried[:9] == [8, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert kept == [1024]
    tried, kept = grown(lambda rows: rows * (1 if rows == 16 else 2))
    assert tried[:8] == [8, 8, 16, 32, 32, 64, 64, 16]
    assert kept == [16]
    tried, kept = grown(lambda rows: rows)
    assert tried[:7] == [8, 8, 16, 16, 32, 32, 8]
    assert grown(lambda rows: 50 + rows, largest=40)[0][:5] == [8, 8, 16, 32, 32]
    assert grown(lambda rows: 50 + rows, largest=3)[0][:3] == [3, 3, 3]


def test_one_slow_chunk_decides_nothing():
    late = iter([1.0, 1.0, 5.0])
    tried, kept = grown(lambda rows: (50 + rows) * (next(late, 1.0)))
    assert tried[:5] == [8, 8, 16, 16, 32]
    assert kept[0] > 16


def test_the_best_size_is_remembered_for_the_model():
    net = Chain()
    _, first, _ = ask(600, net=net)
    _, second, _ = ask(600, net=net)
    assert first[0] == 8
    assert len(set(second[:-1])) == 1
    assert ask(600)[1][0] == 8, "another model is another matter"


@pytest.mark.parametrize("kind", ["scores", "tail"])
@pytest.mark.parametrize("size", [32, None])
def test_a_chunk_that_does_not_fit_is_halved(kind, size):
    def explode(rows):
        if rows.stop - rows.start > 5:
            raise torch.OutOfMemoryError("no room")

    net = Chain()
    with unchanged(net):
        found, asked, explanation = ask(kind=kind, explode=explode, batch_size=size, net=net)
    wanted, *_ = ask(kind=kind, batch_size=7)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    assert asked[:5] == ([32, 16, 8, 4, 4] if size else [8, 4, 4, 4, 4])
    assert "memory ran out" in " ".join(explanation.provenance.notes)


def test_one_row_that_does_not_fit_is_an_error_that_says_where():
    def explode(rows):
        if rows.start >= 8:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError) as caught:
        ask(explode=explode, batch_size=4)
    assert "8 of 100 rows were scored" in "\n".join(caught.value.__notes__)


def test_the_budget_is_checked_beforehand_and_names_cheaper_methods():
    def explode(rows):
        raise AssertionError("rows were made although they could not be paid")

    with pytest.raises(
        BudgetError, match=r"100 rows take 50 forwards.*budget=50.*e\.g\. .*gradcam"
    ):
        ask(explode=explode, budget=50)
    ask(budget=51, batch_size=1)
    ask(budget=51, batch_size=100)


def test_a_row_of_a_tail_costs_its_share_of_a_forward():
    _, _, found = ask(1000, "tail", batch_size=50)
    assert found.provenance.tails == 3 + 5 + 20  # trials of the tail, of the layout, the rows
    with pytest.raises(BudgetError, match="takes 1"):
        ask(1000, "tail", budget=1)
    with pytest.raises(BudgetError, match=r"1,000 rows take \d+ forwards"):
        ask(1000, "tail", budget=20)
    # 1000 rows of 2 images would be 500 forwards; from the layer on it is much less.
    ask(1000, "tail", budget=400)


def test_progress_is_told_while_rows_are_scored():
    told = []

    def look(capture):
        capture.scores(Many(capture.inputs, 10))
        capture.scores(Many(capture.inputs, 4))
        return capture.activations.sum(1)

    compare(
        *(Chain(), images(2), [spy(look, NEEDS), "gradcam"], [1], "body"),
        batch_size=2,
        progress=lambda done, total: told.append((done, total)),
        registry=registry(),
    )
    assert told == [(1, 2), *((1 + part / 5, 2) for part in (1, 2, 3, 4)), (2, 2)]


def test_gradient_methods_come_first_and_their_graph_is_gone_before_rows_run():
    graph, order = [], []

    def gradients(capture):
        order.append("gradients")
        graph.append(weakref.ref(capture._session.explained))
        assert graph[0]().requires_grad
        return (capture.gradients * capture.activations).sum(1)

    def rows(capture):
        order.append("rows")
        gc.collect()
        assert graph[0]() is None, "the graph is still there"
        capture.scores(Many(capture.inputs, 4))
        return (capture.gradients * capture.activations).sum(1)

    methods = [
        spy(rows, NEEDS | Need.GRADIENTS, "rows"),
        spy(gradients, Need.ACTIVATIONS | Need.GRADIENTS, "gradients"),
    ]
    found = compare(Chain(), images(2), methods, [1], "body", registry=registry())
    assert order == ["gradients", "rows"]
    late, early = found.values()
    assert list(found) == [(method, 0) for method in methods]
    assert torch.equal(late.raw["body"], early.raw["body"])
    assert early.provenance.backwards == 1


@pytest.mark.parametrize("targets", [[0, 1, 2], [lambda out: out[0] * out[1], 3, "pred"]])
def test_every_target_has_its_own_gradient_for_methods_that_run_rows(targets):
    def rows(capture):
        scores = capture.scores(Many(capture.inputs, 4)).view(2, 2).sum(0)
        return (capture.gradients * capture.activations).sum(1) + scores[:, None, None]

    def gradients(capture):
        return (capture.gradients * capture.activations).sum(1)

    methods = [
        spy(rows, NEEDS | Need.GRADIENTS, "rows"),
        spy(gradients, Need.ACTIVATIONS | Need.GRADIENTS, "gradients"),
    ]
    layers, words = ["stem", "body"], {"registry": registry()}
    found = compare(Chain(), images(2), methods, targets, layers, **words)
    for (method, place), one in found.items():
        alone = explain(Chain(), images(2), method, targets[place], layers, **words)
        for layer in layers:
            close(one.raw[layer], alone.raw[layer])
    assert found[methods[0], 0].provenance.forwards == 1 + 3 * 2


def test_second_derivatives_are_there_for_methods_that_run_rows():
    def look(capture):
        capture.scores(Many(capture.inputs, 4))
        return (capture.hvp(capture.activations) * capture.input_gradients.sum()).sum(1)

    needs = NEEDS | Need.GRADIENTS | Need.SECOND_ORDER | Need.INPUT_GRADIENTS
    found = explain(Chain(), images(2), spy(look, needs), 1, "body", registry=registry())
    close(found.raw["body"], found.raw["body"])
    assert found.provenance.forwards == 2
