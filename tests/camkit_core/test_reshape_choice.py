"""Channels first or last: decided by shape where it can be, by evidence, or not at all."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry
from core_proof.networks import CLASSES, fill, images
from core_proof.plugins import Halves, entry, module, offering
from torch import nn

from camkit_core import (
    ChannelsFirst,
    ChannelsLast,
    LayoutError,
    OptionError,
    UnknownNameError,
    explain,
)


class Twin(nn.Module):
    """The same network with channels first (convolutions) or last (linear layers)."""

    def __init__(self, last: bool, width: int) -> None:
        super().__init__()
        self.last = last
        first = nn.Linear(3, width) if last else nn.Conv2d(3, width, 1)
        second = nn.Linear(width, width) if last else nn.Conv2d(width, width, 1)
        self.layer = nn.Sequential(first, nn.Tanh(), second)
        self.head = nn.Linear(width, CLASSES)
        fill(self)
        with torch.no_grad():
            for part in (first, second):
                generator = torch.Generator().manual_seed(part.weight.shape[1])
                shape = part.weight.shape[:2]
                drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
                part.weight.copy_(drawn.reshape(part.weight.shape))
                part.bias.zero_()
        self.eval()

    def forward(self, x):
        z = self.layer(x.movedim(1, -1)).movedim(-1, 1) if self.last else self.layer(x)
        return self.head(torch.tanh(z.cumsum(2)).mean((2, 3)))


@pytest.mark.parametrize("width", [4, 7, 10])
@pytest.mark.parametrize("size", [(7, 10), (7, 7), (10, 10)])
def test_twins_in_either_layout_have_the_same_map_even_where_both_would_fit(width, size):
    x = images(2)
    x = torch.cat([x, x], 2)[:, :, : size[0], : size[1]]
    if size == (width, width):
        # Every axis has the width of the linear layers, so nothing tells them apart.
        with pytest.raises(LayoutError, match=r"reads both as \[N, C, \*S\].*channels_last"):
            explain(Twin(True, width), x, HiRes(), 1, "layer", registry=registry())
        return
    first, last = (
        explain(Twin(kind, width), x, HiRes(), 1, "layer", registry=registry())
        for kind in (False, True)
    )
    close(last.raw["layer"], first.raw["layer"], 1e-10)
    assert last.provenance.reshape["layer"] == "ChannelsLast()"
    assert first.provenance.reshape["layer"] == "ChannelsFirst()"


class Turned(nn.Module):
    """Ends a stage of linear layers with channels first, or of convolutions with them last."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, padding=1)
        self.norm = norm

    def forward(self, x):
        return self.norm(self.conv(x).movedim(1, -1))


def test_a_block_with_both_kinds_of_evidence_is_refused_where_both_fit():
    net = nn.Sequential(Turned(nn.LayerNorm(7)), nn.Flatten(), nn.Linear(343, CLASSES))
    fill(net).eval()
    x = images()[..., :7]
    with pytest.raises(LayoutError, match=r"'0' returns \[2, 7, 7, 7\].*channels_first.*_last'"):
        explain(net, x, HiRes(), 1, "0", registry=registry())
    found = {
        kind: explain(net, x, HiRes(), 1, "0", reshape=kind(), registry=registry()).raw["0"]
        for kind in (ChannelsFirst, ChannelsLast)
    }
    assert not torch.equal(found[ChannelsFirst], found[ChannelsLast])


def test_a_shape_that_can_only_be_channels_last_needs_no_evidence():
    net = nn.Sequential(Turned(nn.Identity()), nn.Flatten(), nn.Linear(490, CLASSES))
    fill(net).eval()
    found = explain(net, images(), HiRes(), 1, "0", registry=registry())
    assert found.provenance.reshape["0"] == "ChannelsLast()"


def test_a_plugin_is_asked_first():
    asked = []

    def answer(model, layer_name, layer, output, image):
        asked.append((type(model), layer_name, type(layer), tuple(output.shape), image.shape))
        return ChannelsLast()

    net, x = Twin(False, 7), images()[..., :7]
    reg = registry(("p", module("p", camkit_reshape_for=answer)))
    found = explain(net, x, HiRes(), 1, "layer", registry=reg)
    assert asked == [(Twin, "layer", nn.Sequential, (2, 7, 7, 7), x.shape)]
    assert found.provenance.reshape["layer"] == "ChannelsLast()"


def test_a_given_reshape_wins_over_a_plugin():
    reg = registry(("p", module("p", camkit_reshape_for=lambda output: ChannelsLast())))
    net, x = Twin(False, 7), images()[..., :7]
    found = explain(net, x, HiRes(), 1, "layer", reshape=ChannelsFirst(), registry=reg)
    plain = explain(net, x, HiRes(), 1, "layer", registry=registry())
    same(found.raw["layer"], plain.raw["layer"])


def test_a_named_reshape_comes_from_a_plugin_with_its_options():
    plugin = offering(entry("halves", kind="reshape", ref="core_proof.plugins:Halves"))
    reg, net, x = registry(("p", plugin)), Twin(False, 7), images()
    named, given = (
        explain(net, x, HiRes(), 1, "layer", reshape=reshape, registry=reg)
        for reshape in ("halves:keep=3", Halves("3"))
    )
    same(named.raw["layer"], given.raw["layer"])
    with pytest.raises(OptionError, match=r"reshape halves:.*kep"):
        explain(net, x, HiRes(), 1, "layer", reshape="halves:kep=3", registry=reg)


def test_an_unknown_reshape_says_what_to_install():
    with pytest.raises(UnknownNameError, match=r"no reshape is called 'tokens'.*camkit\[tasks\]"):
        explain(
            Twin(False, 7), images(), HiRes(), 1, "layer", reshape="tokens", registry=registry()
        )


def test_channels_first_can_be_said_without_any_plugin():
    net, x = Twin(False, 7), images()[..., :7]
    named = explain(net, x, HiRes(), 1, "layer", reshape="channels_first", registry=registry())
    twin = explain(Twin(False, 7), x, HiRes(), 1, "layer", registry=registry())
    close(named.raw["layer"], twin.raw["layer"], 1e-10)


def test_channels_last_can_be_said_without_any_plugin():
    net, x = Twin(True, 7), images()[..., :7]
    named = explain(net, x, HiRes(), 1, "layer", reshape="channels_last", registry=registry())
    twin = explain(Twin(False, 7), x, HiRes(), 1, "layer", registry=registry())
    close(named.raw["layer"], twin.raw["layer"], 1e-10)


class Anisotropic(nn.Module):
    """Strides of 8 and 4, channels last behind the first convolution; 8 channels of 4 x 8."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, (8, 4), (8, 4))
        self.layer = nn.Sequential(nn.LayerNorm(8), nn.Tanh()) if norm else nn.Tanh()
        self.head = nn.Linear(8, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(self.layer(self.cut(x).movedim(1, -1)).cumsum(1).mean((1, 2)))


def test_channels_last_are_never_read_as_first_because_another_shape_looks_better():
    """[N, 4, 8, 8] of a 32 x 32 image: 8 x 8 has its aspect, 4 x 8 has not, and is the picture."""
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found = explain(Anisotropic(True), x, HiRes(), 1, "layer", registry=registry())
    assert found.provenance.reshape["layer"] == "ChannelsLast()"
    assert found.raw["layer"].shape == (2, 4, 8)


class Film(nn.Module):
    """Time halved, space quartered; channels last where asked for."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last, self.cut = last, nn.Conv3d(3, 4, (2, 4, 4), (2, 4, 4))
        self.norm = nn.LayerNorm(4) if last else nn.BatchNorm3d(4)
        self.head = nn.Linear(4, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.cut(x)
        z = self.norm(z.movedim(1, -1)).movedim(-1, 1) if self.last else self.norm(z)
        return self.head(torch.tanh(z).cumsum(3).mean((2, 3, 4)))


@pytest.mark.parametrize("last", [False, True])
def test_time_has_a_stride_of_its_own(last):
    """[N, 4, 4, 4, 4] both ways."""
    x = torch.randn(2, 3, 8, 16, 16, dtype=torch.float64)
    found = explain(Film(last), x, HiRes(), 1, "norm", registry=registry())
    name = "ChannelsLast()" if last else "ChannelsFirst()"
    assert found.provenance.reshape["norm"] == name
    assert found.raw["norm"].shape == (2, 4, 4, 4)


class Mixing(nn.Module):
    """A signal whose linear layer mixes time, not channels: [N, 6, 12] stays channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.time = nn.Conv1d(3, 6, 3, padding=1), nn.Linear(12, 12)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(torch.tanh(self.time(torch.tanh(self.conv(x)))).mean(2))


def test_a_linear_layer_on_a_signal_does_not_say_where_its_channels_are():
    x = torch.randn(2, 3, 12, dtype=torch.float64)
    words = {"registry": registry()}
    with pytest.raises(LayoutError, match=r"\[2, 6, 12\], which reads both.*12 picture.*6 picture"):
        explain(Mixing(), x, HiRes(), 1, "time", **words)
    assert explain(Mixing(), x, HiRes(), 1, "conv", **words).raw["conv"].shape == (2, 12)


class Pieces(nn.Module):
    """A layer that sees the four quarters of every image as images of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.conv(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]))
        return self.head(torch.tanh(z).mean((2, 3)).unflatten(0, (4, -1)).mean(0))


def test_rows_that_are_not_images_are_refused():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with pytest.raises(
        LayoutError, match=r"\[8, 6, 6, 6\] for 2 image\(s\): 8 = 2 x 4 rows may be"
    ):
        explain(Pieces(), x, HiRes(), 1, "conv", registry=registry())


class Blocks(nn.Module):
    """Windows of 3 x 3 as `[N, windows, positions, C]`, in a network without uneven strides."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.norm = nn.Conv2d(3, 6, 1), nn.LayerNorm(6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.cut(x).unfold(2, 3, 3).unfold(3, 3, 3).flatten(4).flatten(2, 3)
        return self.head(torch.tanh(self.norm(z.movedim(1, -1))).mean((1, 2)))


def test_windows_are_not_taken_for_rows_of_a_picture():
    """[N, 16, 9, 6] of a 12 x 12 image: neither 9 x 6 nor 16 x 9 is what it looks like."""
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    with pytest.raises(LayoutError, match=r"fits a 12x12 image badly both.*choose another layer"):
        explain(Blocks(), x, HiRes(), 1, "norm", registry=registry())


# -- pictures with channels first that do not look like the image ----------------------------------

WIDTH = 24
"""Too many channels to be taken for rows."""


class Mixer(nn.Module):
    """Pointwise in every place: it computes the same whatever the last two axes are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(1, width), nn.Conv2d(width, width, 1)
        self.act = nn.Tanh()

    def forward(self, x):
        return x + self.act(self.conv(self.norm(x)))


class Patched(nn.Module):
    """Unfolds its features to `[N, C, positions of a patch, patches]` for a block, and folds."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, stride, stride)
        self.inside, self.whole = Mixer(WIDTH), Mixer(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.stem(x)
        rows, columns = z.shape[2] // 2, z.shape[3] // 2
        z = z.unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
        z = self.inside(z.permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(2, 3))
        z = z.unflatten(3, (rows, columns)).unflatten(2, (2, 2)).permute(0, 1, 4, 2, 5, 3)
        return self.head(self.whole(z.flatten(4).flatten(2, 3)).cumsum(2).mean((2, 3)))


@pytest.mark.parametrize("layer", ["inside", "inside.norm", "inside.conv", "inside.act"])
@pytest.mark.parametrize(("stride", "picture"), [(4, "4x16"), (2, "4x64")])
def test_patches_are_not_taken_for_a_picture_of_patches(layer, stride, picture):
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with pytest.raises(
        LayoutError,
        match=rf"fits a 32x32 image badly both as \[N, C, \*S\] with a {picture} picture and as "
        r"\[N, \*S, C\] with a 24x4 picture.*'channels_first'.*'channels_last'.*another layer",
    ):
        explain(Patched(stride), x, HiRes(), 1, layer, registry=registry())
    whole = explain(Patched(stride), x, HiRes(), 1, "whole", registry=registry())
    assert whole.raw["whole"].shape == (2, 32 // stride, 32 // stride)


class Changed(nn.Module):
    """Something that changes the shape of a picture, and a pointwise block behind it."""

    def __init__(self, change: nn.Module) -> None:
        super().__init__()
        self.stem, self.change, self.block = nn.Conv2d(3, WIDTH, 3, padding=1), change, Mixer(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(self.block(self.change(self.stem(x))).cumsum(2).mean((2, 3)))


class Resize(nn.Module):
    """To a fixed size, or a multiple of the size, as a part of the model."""

    def __init__(self, **words) -> None:
        super().__init__()
        self.words = words

    def forward(self, x):
        return nn.functional.interpolate(x, **self.words)


RIGHT = {
    "resized to a square": (Resize(size=(8, 8)), (8, 8)),
    "larger than the image": (Resize(scale_factor=2), (24, 60)),
    "padded to a multiple": (nn.ZeroPad2d((0, 2, 0, 4)), (16, 32)),
    "borders cut off": (nn.Sequential(*[nn.Conv2d(WIDTH, WIDTH, 3) for _ in range(4)]), (4, 22)),
    "pooled in rows only": (nn.MaxPool2d((4, 1)), (3, 30)),
    "pooled to strips": (nn.AdaptiveAvgPool2d((3, 30)), (3, 30)),
    "a kernel cut in rows only": (nn.Conv2d(WIDTH, WIDTH, (9, 1)), (4, 30)),
    "strides that differ": (nn.Conv2d(WIDTH, WIDTH, 3, (4, 1), padding=1), (3, 30)),
    "transposed": (nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, padding=1), (24, 60)),
}


@pytest.mark.parametrize("layer", ["block", "block.norm", "block.conv", "block.act"])
@pytest.mark.parametrize("kind", RIGHT)
def test_pictures_that_the_network_shapes_are_still_believed(kind, layer):
    change, size = RIGHT[kind]
    x = torch.randn(2, 3, 12, 30, dtype=torch.float64)
    found = explain(Changed(change), x, HiRes(), 1, layer, registry=registry())
    assert found.provenance.reshape[layer] == "ChannelsFirst()"
    assert found.raw[layer].shape == (2, *size)


@pytest.mark.parametrize("part", [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.MaxPool2d(3, 1, 1)])
def test_what_looks_at_neighbours_says_that_its_axes_are_places(part):
    """Columns dropped by plain code, which no module tells: a convolution there is a picture."""

    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.part = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Sequential(part, nn.Tanh())
            self.block, self.head = Mixer(WIDTH), nn.Linear(WIDTH, CLASSES)
            fill(self)
            self.eval()

        def forward(self, x):
            z = self.part(self.stem(x)[..., :4])
            return self.head(self.block(z).cumsum(2).mean((2, 3)))

    x = torch.randn(2, 3, 12, 30, dtype=torch.float64)
    found = explain(Cropped(), x, HiRes(), 1, "part", registry=registry())
    assert found.raw["part"].shape == (2, 12, 4)
    with pytest.raises(LayoutError, match=r"fits a 12x30 image badly both"):
        explain(Cropped(), x, HiRes(), 1, "block", registry=registry())


@pytest.mark.parametrize("kind", [nn.Conv2d(3, 6, 1), nn.GroupNorm(1, 3)])
def test_a_picture_larger_than_the_image_is_not_read_otherwise(kind):
    """`[N, 6, 16, 32]` of a 12 x 30 image, whose 6 x 16 would look well as a picture."""
    net = nn.Sequential(nn.ZeroPad2d((0, 2, 0, 4)), kind, nn.Flatten(), nn.LazyLinear(CLASSES))
    x = torch.randn(2, 3, 12, 30, dtype=torch.float64)
    net(x.float())
    found = explain(fill(net).eval(), x, HiRes(), 1, "1", registry=registry())
    assert found.raw["1"].shape == (2, 16, 32)
