"""How the caller holds the model does not change the answer."""

from __future__ import annotations

import copy

import torch
from torch import nn

from camkit_core.need import Need
from camkit_core.testing.judge import ensure, equal, live
from camkit_core.testing.networks import (
    DoubledNet,
    DropoutNet,
    InplaceNet,
    Net,
    images,
)
from camkit_core.testing.subject import (
    Subject,
    both,
    in_input_space,
    linear_head_only,
    own_engine,
)
from camkit_core.testing.suite import Suite
from camkit_core.testing.wrapped import ChannelsLastNet, Tokens

SUITE: Suite[Subject] = Suite("method")


@SUITE.check("a model with frozen parameters gives the plain answer (1e-9)")
def frozen_model(subject: Subject) -> None:
    """`requires_grad_(False)` on everything."""
    net, x = subject.net(), images(2)
    frozen = copy.deepcopy(net).requires_grad_(False)
    equal(subject.raw(frozen, x), subject.raw(net, x), "a frozen model")


@SUITE.check("a caller under no_grad gets the plain answer (1e-9)")
def no_grad(subject: Subject) -> None:
    """The usual way to evaluate."""
    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    with torch.no_grad():
        after = subject.raw(net, x)
    equal(after, before, "called under torch.no_grad()")


@SUITE.check("a caller under inference_mode gets the plain answer (1e-9)")
def inference_mode(subject: Subject) -> None:
    """Inputs made there, too."""
    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    with torch.inference_mode():
        after = subject.raw(net, x.clone())
    equal(after.clone(), before, "called under torch.inference_mode()")


@SUITE.check(
    "what overwrites the layer's output afterwards does not reach the map (1e-9)",
    unless=both(linear_head_only, in_input_space),
)
def inplace_network(subject: Subject) -> None:
    """In-place operations behind the layer, and their twin without."""
    x = images(2)
    twin = subject.on(DoubledNet, x, seed=5, signed=True)
    net = InplaceNet(signed=True)
    net.load_state_dict(twin.state_dict())
    equal(
        subject.raw(net, x),
        subject.raw(twin, x),
        "an in-place operation behind the layer; the activations are probably a view of memory "
        "that the model overwrote: keep a copy",
    )


@SUITE.check("a model in training mode is explained as in evaluation mode (1e-9)")
def training_mode(subject: Subject) -> None:
    """With dropout and batch normalisation."""
    x = images(2)
    own = subject.needs_head or subject.attends  # a network of attention drops by itself
    net: Net = subject.net() if own else subject.on(DropoutNet, x, seed=6)
    before = subject.raw(net, x)
    after = subject.raw(copy.deepcopy(net).train(), x)
    equal(after, before, "a model in training mode; dropout or batch statistics were active")


@SUITE.check("channels_last memory gives the plain answer (1e-9)")
def channels_last(subject: Subject) -> None:
    """Model and images."""
    net, x = subject.net(), images(2)
    twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
    after = subject.raw(twin, x.to(memory_format=torch.channels_last))
    equal(after, subject.raw(net, x), "model and images in channels_last memory")


@SUITE.check("images that require gradients or are views give the plain answer (1e-9)")
def attached_images(subject: Subject) -> None:
    """A leaf that requires gradients, and a slice of a larger tensor."""
    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    equal(subject.raw(net, x.clone().requires_grad_()), before, "images that require gradients")
    wide = torch.cat([x, x], -1)[..., : x.shape[-1]]
    equal(subject.raw(net, wide), before, "images that are a slice of larger ones")


class _Dict(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by name."""
        return {"logits": self.net(x) + bias, "other": x}


@SUITE.check(
    "a model with two inputs and a dictionary for an answer is explained alike (1e-9)",
    unless=own_engine,
)
def containers(subject: Subject) -> None:
    """`model(image, bias) -> {"logits": ...}`."""
    if subject.needs_head:
        return
    net, x = subject.net(), images(2)
    bias = torch.zeros(2, 1, dtype=torch.float64)
    given = subject.explain(_Dict(net), (x, bias), 1, "net.features")
    (after,) = given.raw.values()
    equal(after, subject.raw(net, x), "two inputs and a dictionary of outputs")


_LAYOUTS = both(own_engine, linear_head_only, in_input_space)


@SUITE.check(
    "channel-last activations give the map of their channel-first twin (1e-9)", unless=_LAYOUTS
)
def channels_last_layer(subject: Subject) -> None:
    """`[N, *S, C]`."""
    from camkit_core.reshapes import ChannelsLast

    net, x = subject.net(), images(2)
    twin = ChannelsLastNet(net)
    (after,) = subject.explain(twin, x, 1, reshape=ChannelsLast()).raw.values()
    equal(after, subject.raw(net, x), "the same activations with channels last")


@SUITE.check(
    "tokens with 0, 1 or 5 prefix tokens give the map of their twin (1e-9)", unless=_LAYOUTS
)
def tokens(subject: Subject) -> None:
    """Class and register tokens, not square."""
    from camkit_core.testing.layouts import TokenGrid

    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    for prefix in (0, 1, 5):
        twin, reshape = Tokens(net, prefix), TokenGrid(prefix, (5, 8))
        (after,) = subject.explain(twin, x, 1, reshape=reshape).raw.values()
        equal(after, before, f"the same activations as tokens behind {prefix} others")


@SUITE.check("a one-dimensional network is explained: signals, series")
def one_dimension(subject: Subject) -> None:
    """Live maps with one axis."""
    _dimensions(subject, 1)


@SUITE.check("a three-dimensional network is explained: volumes, film")
def three_dimensions(subject: Subject) -> None:
    """Live maps with three axes."""
    _dimensions(subject, 3)


def _dimensions(subject: Subject, dims: int) -> None:
    x = images(2, dims)
    net = subject.on(subject.home, x, dims=dims)
    maps = subject.raw(net, x)
    here = tuple(net.features(x).shape[2:]) if subject.on_picture else tuple(x.shape[2:])
    if Need.LAYERS not in subject.needs:
        ensure(
            tuple(maps.shape) == (2, *here),
            f"a {dims}-D network gives a map {list(maps.shape)}, expected {[2, *here]}; axes are "
            "probably written as (2, 3) instead of range(2, ndim)",
        )
    live(maps, f"the map of a {dims}-D network")
