"""How a layer's output becomes a picture: the plain layouts, and the choice between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from camkit_core.errors import LayoutError, OptionError
from camkit_core.layouts import beside_weights, channels_axis, picture_fit
from camkit_core.protocols import Reshape
from camkit_core.tree import describe, floating, map_tensors

if TYPE_CHECKING:
    from camkit_core.registry import Registry

ReshapeRequest = Reshape | Callable[[Any], Tensor] | str | None


@dataclass(frozen=True)
class ChannelsFirst:
    """`[N, C, *S]` as it is: convolutional networks."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """The output itself."""
        return only_tensor(output)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """The maps, in the container of `like`."""
        return _put(maps, like)


@dataclass(frozen=True)
class ChannelsLast:
    """`[N, *S, C]`: window transformers, channel-last convolutional networks."""

    def to_spatial(self, output: Any, /) -> Tensor:
        """Channels moved to the second axis."""
        return only_tensor(output).movedim(-1, 1)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Channels moved back to the last axis."""
        return _put(maps.movedim(1, -1), like)


@dataclass(frozen=True)
class FirstEntry:
    """The first entry of a tuple, read by another reshape; what is behind it stays."""

    reshape: Reshape

    def to_spatial(self, output: Any, /) -> Tensor:
        """The first entry's picture."""
        return self.reshape.to_spatial(output[0])

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """The maps in the first entry."""
        return (self.reshape.from_spatial(maps, like[0]), *like[1:])


@dataclass(frozen=True)
class FunctionReshape:
    """One-way reshape from a plain function, as other libraries take it."""

    function: Callable[[Any], Tensor]

    def to_spatial(self, output: Any, /) -> Tensor:
        """What the function returns."""
        return self.function(output)

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """Not known for a function.

        Raises:
            LayoutError: always.
        """
        raise LayoutError(
            "reshape= is a function, which camkit cannot invert; methods that change activations "
            "need an object with to_spatial and from_spatial"
        )


_PLAIN: dict[str, Reshape] = {
    "channels_first": ChannelsFirst(),
    "channels_last": ChannelsLast(),
}


def only_tensor(output: Any) -> Tensor:
    """The single floating tensor of a layer's output.

    Raises:
        LayoutError: there is none, or more than one.
    """
    found = floating(output)
    if len(found) != 1:
        raise LayoutError(
            f"the layer returns {describe(output)} with {len(found)} floating tensors; give "
            "reshape= an object or function that picks the one to explain"
        )
    return found[0]


def _put(maps: Tensor, like: Any) -> Any:
    only_tensor(like)
    return map_tensors(lambda t: maps if torch.is_floating_point(t) else t, like)


def given_reshape(request: ReshapeRequest, registry: Registry) -> Reshape | None:
    """A user's reshape: an object, a function, or a name such as `"tokens:prefix=1"`.

    Raises:
        OptionError: something else.
    """
    if request is None:
        return None
    if isinstance(request, str):
        return _named(request, registry)
    if isinstance(request, Reshape):
        return request
    if callable(request):
        return FunctionReshape(request)
    raise OptionError(
        f"reshape= must be an object with to_spatial, a function or a name, got {request!r}"
    )


def _named(spec: str, registry: Registry) -> Reshape:
    from pydantic import ValidationError

    from camkit_core.options import invalid
    from camkit_core.registry import parse_spec

    name, options = parse_spec(spec)
    if name in _PLAIN and not options:
        return _PLAIN[name]
    try:
        reshape: Reshape = registry.resolve("reshape", name)(**options)
    except (TypeError, ValidationError) as error:
        raise invalid(f"reshape {name}", error) from error
    return reshape


def find_reshape(
    registry: Registry, model: nn.Module, name: str, layer: nn.Module, output: Any, image: Tensor
) -> Reshape:
    """The layout of a layer's output: a plugin's answer, else decided by shape and evidence.

    Of a tuple of tokens, or a picture, and attention weights the weights are left alone.

    Raises:
        LayoutError: not a picture, or ambiguous; the message has the readings and how to say.
    """
    known = registry.reshape_for(model, name, layer, output, image)
    if known is not None:
        return known
    if beside_weights(output):
        return FirstEntry(find_reshape(registry, model, name, layer, output[0], image))
    tensor = only_tensor(output)
    if tensor.ndim and len(tensor) != len(image):
        raise LayoutError(_other_rows(name, tensor, image))
    if tensor.ndim != image.ndim:
        raise LayoutError(_not_a_picture(name, tensor, image))
    axis = channels_axis(model, layer, tensor, image)
    if axis is None:
        raise LayoutError(_undecided(name, tensor, image))
    return _PLAIN[f"channels_{axis}"]


def _undecided(name: str, tensor: Tensor, image: Tensor) -> str:
    first, last = tensor.shape[2:], tensor.shape[1:-1]
    fits = max(picture_fit(first, image), picture_fit(last, image)) == 2
    both = "reads both" if fits else f"fits a {_by(image.shape[2:])} image badly both"
    return (
        f"layer {name!r} returns {list(tensor.shape)}, which {both} as [N, C, *S] with a "
        f"{_by(first)} picture and as [N, *S, C] with a {_by(last)} picture; say "
        "reshape='channels_first' or reshape='channels_last', or choose another layer"
    )


def _other_rows(name: str, tensor: Tensor, image: Tensor) -> str:
    rows, images = len(tensor), len(image)
    times = f" = {images} x {rows // images}" if images and rows % images == 0 else ""
    return (
        f"layer {name!r} returns {list(tensor.shape)} for {images} image(s): {rows}{times} rows "
        "may be windows, regions or frames, whose places are not known; choose the layer around "
        "it (see `camkit layers`) or give reshape= an object or function"
    )


def _not_a_picture(name: str, tensor: Tensor, image: Tensor) -> str:
    shape, spatial = list(tensor.shape), image.ndim - 2
    if tensor.ndim == 2:
        return (
            f"layer {name!r} returns {shape}: one vector per image has no places to show; "
            "choose an earlier layer (see `camkit layers`)"
        )
    if tensor.ndim == 3:
        return (
            f"layer {name!r} returns {shape}, which looks like tokens [N, T, C], but the "
            f"{spatial}-D grid they form is not known; say reshape={_tokens(tensor, image)!r} "
            "(camkit[tasks]), or give an object or function"
        )
    return (
        f"layer {name!r} returns {shape} for a {spatial}-D image {list(image.shape)}; give "
        "reshape= an object or function that makes it [N, C, *S]"
    )


def _tokens(tensor: Tensor, image: Tensor) -> str:
    """The tokens reshape with the fewest prefix tokens whose grid has the image's aspect."""
    aspect = [length / image.shape[2] for length in image.shape[2:]]
    for prefix in range(min(9, tensor.shape[1])):
        count = tensor.shape[1] - prefix
        first = round((count / math.prod(aspect)) ** (1 / len(aspect)))
        grid = [round(first * ratio) for ratio in aspect]
        if math.prod(grid) == count:
            return f"tokens:prefix={prefix},grid={'x'.join(map(str, grid))}"
    return "tokens:prefix=1,grid=14x14"


def _by(sizes: torch.Size) -> str:
    return "x".join(map(str, sizes)) if math.prod(sizes) else "empty"
