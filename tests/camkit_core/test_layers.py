"""What users call a layer, and what they are told when there is no such layer."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import same
from core_proof.methods import registry
from core_proof.networks import Chain, fill, images
from torch import nn

from camkit_core import Explainer, LayerError, explain


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(12)))
        self.layer2 = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1), "act": nn.Tanh()}) for _ in range(3)
        )
        self.missing = None
        self.head = nn.Linear(3, 2)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.layer1(x)
        for block in self.layer2:
            z = block["act"](block["conv"](z))
        return self.head(z.mean((2, 3)))


NET = Stages()
X = images(2)


def resolved(request):
    return Explainer(NET, request, registry=registry()).layers


SPELLED = {
    "layer1": ("layer1", NET.layer1),
    "layer1.0": ("layer1.0", NET.layer1[0]),
    "layer1.11": ("layer1.11", NET.layer1[11]),
    "layer1.-1": ("layer1.11", NET.layer1[-1]),
    "layer1.-12": ("layer1.0", NET.layer1[0]),
    "layer1[-1]": ("layer1.11", NET.layer1[-1]),
    "layer1[3]": ("layer1.3", NET.layer1[3]),
    "layer2.-1.conv": ("layer2.2.conv", NET.layer2[2]["conv"]),
    "layer2[0].act": ("layer2.0.act", NET.layer2[0]["act"]),
    "layer2[-3].-1": ("layer2.0.act", NET.layer2[0]["act"]),
}


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_layer_is_found_however_it_is_spelled(spelled):
    name, module = SPELLED[spelled]
    (layer,) = resolved(spelled)
    assert (layer.name, layer.path, layer.call) == (name, name, None)
    assert layer.module is module


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_module_is_the_layer_of_its_name(spelled):
    name, module = SPELLED[spelled]
    (layer,) = resolved(module)
    assert (layer.name, layer.module) == (name, module)


def test_names_and_modules_give_the_same_map_under_the_same_key():
    name, module = SPELLED["layer1[-1]"]
    by_name, by_module, mixed = (
        explain(NET, X, target=0, layers=layers, registry=registry())
        for layers in ("layer1[-1]", module, [NET.layer1[2], "layer1[-1]"])
    )
    assert list(by_name.raw) == list(by_module.raw) == [name]
    assert list(mixed.raw) == ["layer1.2", name]
    same(by_name.maps, by_module.maps)
    same(mixed.raw[name], by_name.raw[name])
    assert not torch.equal(mixed.raw[name], mixed.raw["layer1.2"])


def test_the_number_of_a_call_is_kept_in_the_name():
    (layer,) = resolved("layer1.-1#0")
    assert (layer.name, layer.path, layer.call) == ("layer1.11#0", "layer1.11", 0)


def test_several_layers_keep_their_order():
    wanted = ("layer2.1.conv", "layer1.0", "head")
    for request in (list(wanted), wanted, [NET.layer2[1]["conv"], "layer1[0]", NET.head]):
        assert tuple(layer.name for layer in resolved(request)) == wanted


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (["layer1", "layer1"], "layer1"),
        (["layer1.-1", "layer1.11"], "layer1.11"),
        (["layer1.11", NET.layer1[-1]], "layer1.11"),
        (["head", "layer1", "head"], "head"),
    ],
)
def test_a_layer_given_twice_is_refused_however_it_is_spelled(request_, name):
    with pytest.raises(LayerError, match=rf"layer '{name}' is given 2 times"):
        resolved(request_)


def test_two_calls_of_a_layer_are_two_layers():
    assert [layer.name for layer in resolved(["head#0", "head#1"])] == ["head#0", "head#1"]
    with pytest.raises(LayerError, match="'head#1' is given 2 times"):
        resolved(["head#1", "head#01"])


@pytest.mark.parametrize(
    ("typo", "near"),
    [
        ("layer3", "'layer1' or 'layer2'|'layer2' or 'layer1'"),
        ("Layer1", "'layer1'"),
        ("layr1.11", "'layer1.11'"),
        ("layer1.12", "'layer1.1"),
        ("layer2.0.cnov", "'layer2.0.conv'"),
        ("haed", "'head'"),
        ("head#0#1", ""),
    ],
)
def test_a_typo_is_answered_with_the_nearest_names(typo, near):
    if "#0#" in typo:
        with pytest.raises(LayerError, match="after '#' comes the number"):
            resolved(typo)
        return
    with pytest.raises(LayerError, match=rf"Stages has no layer '{typo}'; did you mean.*({near})"):
        resolved(typo)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("zzz", "Stages has layer1, layer2"),
        ("layer2.0.quixotically_waltzing_along", "layer2.0 has conv, act"),
        ("head.quixotic_waltz", "head has no children"),
        ("missing", ""),
        ("", ""),
        ("layer1.-13", ""),
        ("layer1[12]", ""),
        ("layer1..0", ""),
        ("layer1.0.weight", ""),
    ],
)
def test_a_name_like_no_other_is_answered_with_what_is_there(name, there):
    with pytest.raises(LayerError, match="has no layer") as caught:
        resolved(name)
    assert there in str(caught.value)


@pytest.mark.parametrize("call", ["head#", "head#x", "head#-1", "head#1.5"])
def test_a_call_that_is_no_number_is_refused(call):
    if call == "head#":
        assert resolved(call)[0].call is None
        return
    with pytest.raises(LayerError, match=r"after '#' comes the number of the call"):
        resolved(call)


@pytest.mark.parametrize(
    "name", ["__class__", "forward", "layer1.__init__", "os.system", "layer1;x"]
)
def test_names_are_looked_up_and_never_evaluated(name):
    with pytest.raises(LayerError, match="has no layer"):
        resolved(name)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "non-empty list"),
        ((), "non-empty list"),
        (3, "layers="),
        (NET.head.weight, "a parameter or tensor|layers="),
        ([NET.head.weight], "a parameter or tensor"),
        ([torch.zeros(2)], "a parameter or tensor"),
        ([None], "got a NoneType"),
        (["head", 4], "got a int"),
        ({"head"}, "layers="),
    ],
)
def test_what_is_no_layer_is_refused_by_what_it_is(request_, words):
    with pytest.raises(LayerError, match=words):
        resolved(request_)


def test_a_module_of_another_model_is_refused():
    with pytest.raises(LayerError, match=r"given Linear is not part of this Stages.*another copy"):
        resolved(Stages().head)


def test_the_model_itself_is_no_layer():
    with pytest.raises(LayerError, match="the model itself is not a layer"):
        resolved(NET)


def test_layers_are_checked_before_the_model_runs():
    def never(x):
        raise AssertionError("the model ran")

    net = Chain()
    net.forward = never
    with pytest.raises(LayerError, match="did you mean 'body'"):
        explain(net, X, layers="bod", registry=registry())
