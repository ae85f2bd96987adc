"""How a layer's output becomes a picture: the plain layouts, and the choice between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from camkit_core.errors import LayoutError, OptionError
from camkit_core.protocols import Reshape
from camkit_core.tree import describe, floating, map_tensors

if TYPE_CHECKING:
    from camkit_core.registry import Registry

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.GroupNorm,
)

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

    Raises:
        LayoutError: not a picture, or ambiguous; the message has the readings and how to say.
    """
    tensor = only_tensor(output)
    known = registry.reshape_for(model, name, layer, tensor, image)
    if known is not None:
        return known
    if tensor.ndim != image.ndim:
        raise LayoutError(_not_a_picture(name, tensor, image))
    first, last = (_plausible(shape, image) for shape in (tensor.shape[2:], tensor.shape[1:-1]))
    if not (first and last):
        return ChannelsLast() if last else ChannelsFirst()
    evidence = _evidence(model, layer, tensor)
    if evidence is None:
        raise LayoutError(
            f"layer {name!r} returns {list(tensor.shape)}, which reads both as [N, C, *S] with a "
            f"{_by(tensor.shape[2:])} picture and as [N, *S, C] with a {_by(tensor.shape[1:-1])} "
            "picture; say reshape='channels_first' or reshape='channels_last'"
        )
    return evidence


def _plausible(spatial: torch.Size, image: Tensor) -> bool:
    """Whether an image could have been reduced to this size: same aspect, not larger."""
    size = image.shape[2:]
    if any(s > full for s, full in zip(spatial, size, strict=True)) or not all(spatial):
        return False
    # A stride r gives between full/r - 1 and full/r + 1 cells on every axis.
    low = max(full / (s + 1) for s, full in zip(spatial, size, strict=True))
    high = min(full / max(s - 1, 0.5) for s, full in zip(spatial, size, strict=True))
    return low <= high


def _evidence(model: nn.Module, layer: nn.Module, output: Tensor) -> Reshape | None:
    """What the modules in the layer say of its layout; if nothing, the last telling one before it.

    A block with convolutions and layer norms permutes somewhere, so it says nothing; and linear
    layers alone say something only if their width is that of the last axis and of no other.
    """
    inside = {_layout(module) for module in layer.modules()} - {None}
    if not inside:
        before = itertools.takewhile(lambda module: module is not layer, model.modules())
        inside = {next((kind for kind in map(_layout, reversed(list(before))) if kind), None)}
    if inside == {"first"}:
        return ChannelsFirst()
    if inside == {"last"}:
        return ChannelsLast()
    widths = {m.out_features for m in layer.modules() if type(m) is nn.Linear}
    projects = output.shape[-1] in widths and output.shape[1] not in widths
    return ChannelsLast() if inside <= {None} and projects else None


def _layout(module: nn.Module) -> str | None:
    if isinstance(module, _CHANNELS_FIRST):
        return "first"
    # The exact type: subclasses such as LayerNorm2d permute by themselves.
    return "last" if type(module) is nn.LayerNorm else None


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
