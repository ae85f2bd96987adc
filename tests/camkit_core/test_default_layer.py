"""The layer that is explained when nobody names one."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import same, telling
from core_proof.methods import registry
from core_proof.networks import CLASSES, Chain, fill, images
from core_proof.plugins import module
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import (
    ChannelsLast,
    Explainer,
    LayerError,
    TargetError,
    explain,
    probe_layers,
)


def chosen(net, x, target=1, **words):
    """The layer of a call without layers, after checking that the report says the same."""
    reg = words.pop("registry", None) or registry()
    found = explain(net, x, target=target, registry=reg, **words)
    (name,) = found.provenance.layers
    report = probe_layers(net, x, target, registry=reg, **words)
    assert report.default == name
    assert [row.name for row in report.rows if row.default] == [name]
    named = explain(net, x, target=target, layers=name, registry=reg, **words)
    same(found.maps, named.maps)
    telling(found.maps)
    return name


class Sized(nn.Module):
    """Any chain of parts, then average pooling and a linear layer, all as modules."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.order = tuple(parts)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return self.head(self.flat(self.pool(torch.tanh(x))))


def conv(channels=6):
    return nn.Conv2d(channels, 6, 3, padding=1)


class Block(nn.Module):
    """A residual block whose output is no child's output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


CASES = {
    "a chain": (lambda: Chain(), "neck"),
    "pooling at the end": (lambda: Sized(a=conv(3), b=conv()), "b"),
    "a pooling that keeps places": (lambda: Sized(a=conv(3), p=nn.MaxPool2d(2)), "a"),
    "an activation is not learned": (lambda: Sized(a=conv(3), act=nn.Tanh()), "a"),
    "a container with an activation": (
        lambda: Sized(stem=conv(3), layer=nn.Sequential(conv(), nn.Tanh())),
        "layer",
    ),
    "a container that returns its child's tensor": (
        lambda: Sized(stem=conv(3), layer=nn.Sequential(nn.Tanh(), nn.Sequential(conv()))),
        "layer",
    ),
    "residual blocks": (
        lambda: Sized(stem=conv(3), layer4=nn.Sequential(Block(), Block())),
        "layer4",
    ),
    "one position only": (
        lambda: Sized(a=conv(3), b=nn.Conv2d(6, 6, (7, 10))),
        "a",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_last_learned_layer_with_a_picture_is_chosen(case):
    build, wanted = CASES[case]
    assert chosen(build(), images(2)) == wanted


@pytest.mark.parametrize("dims", [1, 3])
def test_it_is_chosen_in_any_number_of_dimensions(dims):
    assert chosen(Chain(dims), images(2, dims)) == "neck"


@pytest.mark.parametrize("layers", [None, "auto"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_is_chosen_in_any_mode_and_nothing_is_changed(layers, mode):
    net, x = Chain().train(), images()
    net.requires_grad_(False)
    with mode(), unchanged(net, x):
        found = explain(net, x, target=1, layers=layers, registry=registry())
    assert found.provenance.layers == ("neck",)


class Skipping(nn.Module):
    """The last convolution is not what the score is made from."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = conv(3), conv()
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.used(x)
        extra = self.spare(z)
        return {"logits": self.head(torch.tanh(z).mean((2, 3))), "extra": extra}


def test_a_layer_the_score_does_not_use_is_not_chosen():
    net, x = Skipping(), images()
    assert chosen(net, x) == "used"
    assert "1 later layer(s) no longer reach it" in probe_layers(net, x, registry=registry()).reason
    wanted = explain(net, x, target=lambda out: out["extra"].square().mean(), registry=registry())
    assert wanted.provenance.layers in {("used",), ("spare",)}


class TinyViT(nn.Module):
    """Patches, a class token, two blocks; only the class token reaches the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        blocks = [nn.TransformerEncoderLayer(6, 2, 12, batch_first=True) for _ in range(2)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.patch(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.token.expand(len(z), -1, -1), z], 1)
        for block in self.blocks:
            z = block(z)
        return self.head(z[:, 0])


def test_tokens_without_a_plugin_are_refused_with_the_remedy():
    x = images()[:, :, :6]
    with pytest.raises(LayerError, match=r"'patch'.*later ones.*tokens.*reshape='tokens:"):
        explain(TinyViT(), x, target=1, registry=registry())


class Grid:
    """Tokens of a 3 x 5 grid behind one class token."""

    def to_spatial(self, output, /):
        return output[:, 1:].transpose(1, 2).unflatten(2, (3, 5))

    def from_spatial(self, maps, like, /):
        return torch.cat([like[:, :1], maps.flatten(2).transpose(1, 2)], 1)


def test_with_a_plugin_the_last_block_whose_patches_reach_the_score_is_chosen():
    plugin = module(
        "p",
        camkit_reshape_for=lambda output: Grid() if output.ndim == 3 else None,
    )
    net, x = TinyViT(), images()[:, :, :6]
    reg = registry(("tokens", plugin))
    name = chosen(net, x, registry=reg)
    assert name.startswith("blocks.")
    report = probe_layers(net, x, 1, registry=reg)
    assert name != "blocks.1"
    (row,) = [row for row in report.rows if row.default]
    assert row.spatial == (3, 5)


def test_a_plugin_may_name_the_layer_of_a_model_family():
    plugin = module("p", camkit_default_layer=lambda model: "stem")
    reg = registry(("family", plugin))
    found = explain(Chain(), images(), target=1, registry=reg)
    assert found.provenance.layers == ("stem",)
    assert found.provenance.forwards == 1
    assert probe_layers(Chain(), images(), 1, registry=reg).default == "stem"


class OnePlace(Chain):
    def finish(self, a):
        return self.head(a[:, :, 0, 0])


def test_a_score_that_depends_on_one_position_goes_back_to_a_layer_where_more_do():
    assert chosen(OnePlace(), images()) == "body"


def test_a_score_that_never_depends_on_more_than_one_position_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Tanh(), nn.Conv2d(6, CLASSES, 1))
    fill(net).eval()
    with pytest.raises(LayerError, match=r"one position only.*give layers="):
        explain(net, images(), target=lambda out: out[0, 2, 3], registry=registry())


def test_a_score_without_gradient_takes_the_last_picture_for_methods_without_gradients():
    def count(out):
        return (out > 0).sum().double()

    found = explain(Chain(), images(), "mean", count, registry=registry())
    assert found.provenance.layers == ("neck",)
    with pytest.raises(TargetError, match="not connected"):
        explain(Chain(), images(), "gradcam", count, registry=registry())


def test_a_network_without_pictures_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(210, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    fill(net).eval()
    with pytest.raises(LayerError, match=r"none of 4 layers.*\[N, C, \*S\].*layers=.*reshape="):
        explain(net, images(), target=1, registry=registry())


def test_methods_in_input_space_need_no_layer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(210, CLASSES))
    fill(net).eval()
    assert explain(net, images(), "saliency", 1, registry=registry()).provenance.layers == ()


def test_a_reused_module_is_not_chosen():
    class Reusing(Chain):
        order = ("stem", "body", "neck", "neck")

    assert chosen(Reusing(), images()) == "body"


def test_a_given_reshape_is_used_for_choosing_too():
    net = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh())
    fill(net).eval()

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.movedim(1, -1)).mean((1, 2))

    assert chosen(Last(), images(), 2, reshape=ChannelsLast()) in {"net", "net.1"}


def test_an_explainer_chooses_for_every_input():
    explainer = Explainer(Chain(), registry=registry())
    for seed in range(3):
        assert explainer.explain(images(seed=seed), target=0).provenance.layers == ("neck",)
