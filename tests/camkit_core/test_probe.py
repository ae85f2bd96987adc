"""What the probe costs, remembers and reports."""

from __future__ import annotations

import pytest
import torch
from core_proof.methods import registry
from core_proof.networks import Chain, fill, images
from torch import nn

from camkit_core import Explainer, LoadedModel, Prepared, explain, probe_layers


class Counting(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.count = [0]

    def forward(self, x):
        self.count[0] += 1
        return super().forward(x)


def forwards(net, call):
    before = net.count[0]
    found = call()
    spent = net.count[0] - before
    assert found.provenance.forwards == spent
    return spent


def test_the_default_layer_costs_one_forward_once_per_model_and_shape():
    net, reg = Counting(), registry()

    def spent(x, **words):
        return forwards(net, lambda: explain(net, x, target=1, registry=reg, **words))

    assert spent(images(2)) == 2
    assert spent(images(2, seed=1)) == 1
    assert spent(images(5)) == 1, "the batch size makes no difference"
    assert spent(images(2).flip(-1)[..., :9]) == 2, "another size is probed"
    assert spent(images(2).flip(-1)[..., :9]) == 1
    assert spent(images(2)) == 1, "the first size is still known"
    assert spent(images(2), layers="neck") == 1


def test_explainers_of_one_model_share_what_is_known():
    net, reg = Counting(), registry()
    for cost in (2, 1, 1):
        explainer = Explainer(net, registry=reg)
        assert forwards(net, lambda e=explainer: e.explain(images(), target=1)) == cost


def test_another_model_with_the_same_weights_is_probed_itself():
    reg = registry()
    for _ in range(2):
        net = Counting()
        assert forwards(net, lambda n=net: explain(n, images(), target=1, registry=reg)) == 2


def test_a_changed_tree_is_probed_again():
    net, reg = Counting(), registry()
    assert explain(net, images(), target=1, registry=reg).provenance.layers == ("neck",)
    old, net.neck = net.neck, nn.Tanh()
    found = explain(net, images(), target=1, registry=reg)
    assert found.provenance.layers == ("body",)
    assert found.provenance.forwards == 2
    net.neck = old
    assert explain(net, images(), target=1, registry=reg).provenance.layers == ("neck",)


def test_changed_weights_are_not_probed_again():
    net, reg = Counting(), registry()
    explain(net, images(), target=1, registry=reg)
    with torch.no_grad():
        net.neck.weight.mul_(2)
    assert forwards(net, lambda: explain(net, images(), target=1, registry=reg)) == 1


def test_comparing_finds_the_layer_once():
    net, reg = Counting(), registry()
    found = Explainer(net, registry=reg).compare(images(), ["gradcam", "mean", "hires"], [0, 1])
    assert net.count == [2]
    assert {one.provenance.layers for one in found.values()} == {("neck",)}


class Mixed(nn.Module):
    """Layers of every kind the report has something to say about."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.rows = nn.GRU(6, 4, batch_first=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.never = nn.Linear(2, 2)
        self.head = nn.Linear(10, 5)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.last(torch.tanh(self.twice(self.twice(self.stem(x)))))
        _, state = self.rows(z.flatten(2).transpose(1, 2))
        return self.head(torch.cat([self.pool(z).flatten(1), state[0]], 1))


@pytest.fixture(scope="module")
def rows():
    report = probe_layers(Mixed(), images(2), 1, registry=registry())
    return {row.name: row for row in report.rows}


def test_rows_come_in_the_order_of_execution(rows):
    assert list(rows) == [
        "stem.0", "stem.1", "stem", "twice", "last", "rows", "pool", "head"
    ]  # fmt: skip


def test_rows_have_types_shapes_and_pictures(rows):
    assert [rows[name].kind for name in ("stem.0", "rows", "head")] == ["Conv2d", "GRU", "Linear"]
    assert rows["stem"].output == "[2, 6, 4, 5]"
    assert rows["stem"].spatial == (4, 5)
    assert rows["pool"].spatial == (1, 1)
    assert rows["head"].spatial is None
    assert rows["rows"].output == "tuple(tensor [2, 20, 4], tensor [1, 2, 4])"


def test_rows_say_how_often_a_layer_ran_and_how_to_name_a_call(rows):
    assert rows["twice"].calls == 2
    assert rows["twice"].note == "name one call: 'twice#0' ..."
    assert rows["last"].calls == 1
    assert rows["last"].note == ""


def test_rows_say_why_a_layer_cannot_be_drawn(rows):
    assert "no places" in rows["head"].note
    assert "2 floating tensors" in rows["rows"].note


def test_one_row_is_the_default_and_the_reason_is_given(rows):
    assert [name for name, row in rows.items() if row.default] == ["last"]
    report = probe_layers(Mixed(), images(2), 1, registry=registry())
    assert report.reason == "the last layer with a picture that the score depends on"


def test_a_loaded_model_and_a_prepared_batch_are_probed_like_what_they_hold():
    net, x = Chain(), images()
    loaded = LoadedModel(model=net, spec="mine", weights="random", preprocess=None)
    one = probe_layers(loaded, Prepared(x, ("a", "b")), registry=registry())
    assert one == probe_layers(net, x, registry=registry())


def test_words_for_output_and_image_are_understood():
    class Two(Chain):
        def forward(self, mask, x):
            y = super().forward(x * mask)
            return {"a": y, "b": 2 * y}

    report = probe_layers(
        Two(), (images(channels=1), images()), 0, output="b", image=1, registry=registry()
    )
    assert report.default == "neck"
