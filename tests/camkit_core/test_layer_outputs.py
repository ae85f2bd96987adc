"""How the output of a layer becomes a picture: containers, channels last, vectors, tokens."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import CLASSES, Chain, fill, images
from torch import nn

from camkit_core import (
    ChannelsFirst,
    ChannelsLast,
    LayoutError,
    Need,
    OptionError,
    TensorRows,
    explain,
)


@dataclass
class Box:
    maps: torch.Tensor
    label: str = "x"


class Packing(nn.Module):
    """A convolution whose output is packed by one function."""

    def __init__(self, pack) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.pack = pack

    def forward(self, x):
        return self.pack(self.conv(x))


class Unpacking(nn.Module):
    """`tail(unpack(layer(x)))`."""

    def __init__(self, pack, unpack, width: int = 6) -> None:
        super().__init__()
        self.layer = Packing(pack)
        self.mix = nn.Conv2d(width, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        self.unpack = unpack
        fill(self)
        self.eval()

    def tail(self, z):
        return self.head(torch.tanh(self.mix(z)).flatten(2).mean(2))

    def forward(self, x):
        return self.tail(self.unpack(self.layer(x)))


def by_hand(net, x):
    z = net.layer.conv(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.tail(z)[:, 1].sum(), z)
    return (z.detach() * gradient).sum(1)


ONE = {
    "tensor": (lambda z: z, lambda p: p),
    "tuple": (lambda z: (z,), lambda p: p[0]),
    "tuple with counts": (lambda z: (torch.arange(3), z), lambda p: p[1]),
    "list": (lambda z: [z, None], lambda p: p[0]),
    "dict": (lambda z: {"maps": z, "n": 3}, lambda p: p["maps"]),
    "dataclass": (lambda z: Box(z), lambda p: p.maps),
}


@pytest.mark.parametrize("kind", ONE)
def test_the_only_floating_tensor_of_a_layers_output_is_explained(kind):
    net, x = Unpacking(*ONE[kind]), images()
    found = explain(net, x, HiRes(), 1, "layer", registry=registry())
    close(found.raw["layer"], by_hand(net, x))
    same(found.output, net(x).detach())


@pytest.mark.parametrize("kind", ONE)
def test_the_tail_puts_changed_activations_back_into_the_container(kind):
    net, x, found = Unpacking(*ONE[kind]), images(), []

    def look(capture):
        rows = TensorRows(capture.activations.flip(2), torch.arange(2))
        found.append(capture.tail(rows))
        return capture.activations.sum(1)

    explain(net, x, spy(look, Need.ACTIVATIONS | Need.TAIL), 1, "layer", registry=registry())
    wanted = net.tail(net.layer.conv(x).flip(2)).detach()[:, 1]
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


def two(z):
    return z[:, :3] * 2, z[:, 3:]


def test_two_floating_tensors_are_refused_with_what_the_layer_returns():
    net = Unpacking(two, lambda p: torch.cat(p, 1))
    with pytest.raises(LayoutError, match=r"2 floating tensors.*reshape="):
        explain(net, images(), HiRes(), 1, "layer", registry=registry())


# -- tokens or a picture, and attention weights ----------------------------------------------------


def scored(z, heads: int = 2):
    """Products of all positions with each other, `[N, heads, T, T]`."""
    parts = z.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)
    return parts @ parts.mT


def weights(z):
    return scored(z).softmax(-1)


BESIDE = {
    "weights": lambda z: (z, weights(z)),
    "weights and nothing": (lambda z: (z, None, weights(z), weights(-z), None)),
    "weights of bfloat16": lambda z: (z, weights(z).bfloat16()),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_a_picture_beside_attention_weights_is_explained(kind):
    net, x, found = Unpacking(BESIDE[kind], lambda p: p[0]), images(), []
    one = explain(net, x, HiRes(), 1, "layer", registry=registry())
    close(one.raw["layer"], by_hand(net, x))
    assert one.provenance.reshape["layer"] == "FirstEntry(reshape=ChannelsFirst())"

    def look(capture):
        rows = TensorRows(capture.activations.flip(2)[[1, 0, 1]], torch.tensor([1, 0, 1]))
        found.append(capture.tail(rows))
        return capture.activations.sum(1)

    explain(net, x, spy(look, Need.ACTIVATIONS | Need.TAIL), 1, "layer", registry=registry())
    wanted = net.tail(net.layer.conv(x).flip(2)).detach()[[1, 0, 1], 1]
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


def test_weights_that_are_read_too_stay_while_the_picture_is_changed():
    def unpack(p):
        return p[0] * p[1].amax(-1).mean(1).reshape(p[0][:, :1].shape)

    net, x, found = Unpacking(BESIDE["weights"], unpack), images(), []

    def look(capture):
        found.append(capture.tail(TensorRows(capture.activations * 2, torch.arange(2))))
        return capture.activations.sum(1)

    explain(net, x, spy(look, Need.ACTIVATIONS | Need.TAIL), 1, "layer", registry=registry())
    z = net.layer.conv(x)
    wanted = net.tail(unpack((2 * z, weights(z)))).detach()[:, 1]
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)


OPEN = {
    "rows that do not add up to one": lambda z: (z, scored(z).sigmoid()),
    "negative numbers": lambda z: (z, 3 * torch.eye(70, dtype=z.dtype) - 2 * weights(z)),
    "weights of other positions": lambda z: (z, weights(z[..., 1:])),
    "weights of other images": lambda z: (z, weights(z[:1])),
    "weights before the picture": lambda z: (weights(z), z),
    "two pictures": lambda z: (z, z),
    "a vector besides": lambda z: (z, weights(z), z.mean((2, 3))),
    "weights without heads": lambda z: (z, weights(z).mean(1)),
    "a list": lambda z: [z, weights(z)],
}


@pytest.mark.parametrize("kind", OPEN)
def test_what_may_be_another_picture_is_not_passed_over(kind):
    place = 1 if kind == "weights before the picture" else 0
    net = Unpacking(OPEN[kind], lambda p: p[place])
    with pytest.raises(LayoutError, match=r"[23] floating tensors.*reshape="):
        explain(net, images(), HiRes(), 1, "layer", registry=registry())


@pytest.mark.parametrize("index", [0, 1])
def test_a_function_picks_one_of_two_tensors(index):
    net, x = Unpacking(two, lambda p: torch.cat(p, 1)), images()
    found = explain(
        net, x, HiRes(), 1, "layer", reshape=lambda out: out[index], registry=registry()
    )
    parts = [part.detach().requires_grad_() for part in two(net.layer.conv(x))]
    gradients = torch.autograd.grad(net.tail(torch.cat(parts, 1))[:, 1].sum(), parts)
    close(found.raw["layer"], (parts[index] * gradients[index]).sum(1).detach())


def test_a_function_may_take_both_tensors_and_one_may_have_no_gradient():
    net, x = Unpacking(two, lambda p: p[0], width=3), images()
    both = explain(
        net, x, HiRes(), 1, "layer", reshape=lambda out: torch.cat(out, 1), registry=registry()
    )
    first = explain(net, x, HiRes(), 1, "layer", reshape=lambda out: out[0], registry=registry())
    close(both.raw["layer"], first.raw["layer"])


def test_the_tail_cannot_invert_a_function_and_says_so():
    net = Unpacking(two, lambda p: torch.cat(p, 1))
    method = spy(
        lambda c: c.tail(TensorRows(c.activations, torch.arange(2))), Need.ACTIVATIONS | Need.TAIL
    )
    with pytest.raises(LayoutError, match=r"cannot invert.*to_spatial and from_spatial"):
        explain(net, images(), method, 1, "layer", reshape=lambda out: out[0], registry=registry())


class Last(nn.Module):
    """A channels-last twin: `LayerNorm` and `Linear` only, channels at the end."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        z = self.norm(self.first(x.movedim(1, -1)))
        return self.head(torch.tanh(z.cumsum(1)).flatten(1, -2).mean(1))


def last_by_hand(net, x):
    z = net.norm(net.first(x.movedim(1, -1))).detach().requires_grad_()
    score = net.head(torch.tanh(z.cumsum(1)).flatten(1, -2).mean(1))[:, 2].sum()
    (gradient,) = torch.autograd.grad(score, z)
    return (z * gradient).sum(-1).detach()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("reshape", [None, ChannelsLast(), lambda out: out.movedim(-1, 1)])
def test_channels_last_is_recognized_or_said(dims, reshape):
    net, x = Last(), images(2, dims)
    found = explain(net, x, HiRes(), 2, "norm", reshape=reshape, registry=registry())
    close(found.raw["norm"], last_by_hand(net, x))


def test_channels_last_and_first_are_not_mixed_up_where_both_would_fit():
    class Plain(nn.Module):
        """No telling module: the shape alone reads both ways."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(x[:, :, :6, :6].repeat(1, 2, 1, 1)).tanh().cumsum(2).mean((2, 3))

    x = images(2)[..., :7]
    with pytest.raises(LayoutError, match=r"both as \[N, C, \*S\].*6x6.*\[N, \*S, C\].*channels_"):
        explain(Plain(), x, HiRes(), 0, "layer", registry=registry())
    first = explain(Plain(), x, HiRes(), 0, "layer", reshape="channels_first", registry=registry())
    other = explain(Plain(), x, HiRes(), 0, "layer", reshape=ChannelsLast(), registry=registry())
    z = x[:, :, :6, :6].repeat(1, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(z.tanh().cumsum(2).mean((2, 3))[:, 0].sum(), z)
    product = (z * gradient).detach()
    close(first.raw["layer"], product.sum(1))
    close(other.raw["layer"], product.sum(-1))


VECTORS = {
    "vector": ("head", r"layer 'head' returns \[2, 5\].*no places.*earlier layer"),
}


def test_a_vector_per_image_is_refused_with_the_remedy():
    with pytest.raises(LayoutError, match=r"layer 'head' returns \[2, 5\].*no places.*earlier"):
        explain(Chain(), images(), HiRes(), 0, "head", registry=registry())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(self.mix(self.patch(x).flatten(2).transpose(1, 2)).tanh().mean(1))


def test_tokens_are_refused_without_their_grid_and_explained_with_it():
    net, x = Tokens(), images()[:, :, :6]
    with pytest.raises(LayoutError, match=r"\[2, 15, 6\].*tokens.*reshape='tokens:"):
        explain(net, x, HiRes(), 0, "mix", registry=registry())
    found = explain(
        net,
        x,
        HiRes(),
        0,
        "mix",
        reshape=lambda out: out.transpose(1, 2).unflatten(2, (3, 5)),
        registry=registry(),
    )
    assert found.raw["mix"].shape == (2, 3, 5)


def test_a_layer_with_more_axes_than_the_image_is_refused():
    net = Unpacking(lambda z: z[..., None], lambda p: p[..., 0])
    with pytest.raises(LayoutError, match=r"\[2, 6, 7, 10, 1\] for a 2-D image.*reshape="):
        explain(net, images(), HiRes(), 0, "layer", registry=registry())


@pytest.mark.parametrize(
    ("reshape", "words"),
    [
        (lambda out: out[:1], r"gave \[1, 6, 7, 10\].*N = 2"),
        (lambda out: out.flatten(1), r"gave \[2, 420\]"),
        (lambda out: "picture", "gave str"),
    ],
)
def test_a_reshape_that_gives_no_picture_is_refused(reshape, words):
    net = Unpacking(lambda z: z, lambda p: p)
    with pytest.raises(LayoutError, match=rf"reshape of layer 'layer' {words}"):
        explain(net, images(), HiRes(), 0, "layer", reshape=reshape, registry=registry())


def test_a_reshape_that_is_none_of_the_allowed_kinds_is_refused():
    with pytest.raises(OptionError, match=r"reshape= must be an object with to_spatial.*got 3"):
        explain(Chain(), images(), HiRes(), 0, "body", reshape=3, registry=registry())


@pytest.mark.parametrize("reshape", [ChannelsFirst(), ChannelsLast()])
def test_both_ways_of_a_reshape_are_inverse(reshape):
    output = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    boxed = (output, torch.arange(3))
    maps = reshape.to_spatial(boxed)
    back, counts = reshape.from_spatial(maps + 1, boxed)
    assert torch.equal(back, output + 1)
    assert torch.equal(counts, boxed[1])
