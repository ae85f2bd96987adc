"""Where the channels of a layer's output are: what its shape and the modules around it say.

The only place that judges this. Plugins that know a family use the same words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from camkit_core.proportions import in_proportion, one_stride, strides_differ, treats_axes_alike
from camkit_core.tree import exact

Channels = Literal["first", "last"]

_ROUNDING = 2e-2
"""How far a row of attention weights in half precision may be from one."""

_POOLING = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    *_POOLING,
)
_ELEMENTWISE = (
    *("Dropout", "DropPath", "StochasticDepth", "Identity", "GELU", "ReLU", "SiLU", "Tanh"),
    *("Sigmoid", "Hard", "LeakyReLU", "PReLU", "ELU", "SELU", "Mish", "Softplus"),
)


def channels_axis(
    model: nn.Module, layer: nn.Module, output: Tensor, image: Tensor
) -> Channels | None:
    """Whether `output` is `[N, C, *S]` or `[N, *S, C]`; None if nothing tells.

    The module that computes the output decides, then the shape of the picture, then what the
    layer is made of, then the last telling module before it. A picture that fits badly is believed
    of modules that look at neighbours only, or where rows and columns are treated differently:
    others compute the same on anything that is put into the axes, patches or heads, say.
    """
    first, last = (picture_fit(p, image) for p in (output.shape[2:], output.shape[1:-1]))
    certain = output_channels(layer, output)
    if certain == "first":
        looks = any(map(_looks_around, layer.modules()))
        return certain if looks or _shaped_like(output.shape[2:], model, image) else None
    if certain == "last" and last >= _enough(model):
        return certain
    if first != last and max(first, last) == 2:
        return "first" if first > last else "last"
    likely = _made_of(layer, output) or _before(model, layer)
    if likely == "first":
        return likely if _shaped_like(output.shape[2:], model, image) else None
    return None if likely == "last" and last < _enough(model) else likely


def beside_weights(output: Any) -> bool:
    """Whether a tuple holds tokens `[N, T, C]` or a picture, and else attention weights or None.

    By their shape alone weights `[N, heads, T, T]` could be masks of the image: cut in patches of
    16, one of 256 x 256 has 256 tokens. So their rows must also add up to one.
    """
    if type(output) is not tuple or not output or not isinstance(output[0], Tensor):
        return False
    main, rest = output[0], [one for one in output[1:] if one is not None]
    if not main.is_floating_point() or main.ndim not in (3, 4) or not rest:
        return False
    places = main.shape[1] if main.ndim == 3 else math.prod(main.shape[2:])
    return all(_weights(one, len(main), places) for one in rest)


def _weights(one: Any, images: int, places: int) -> bool:
    if not isinstance(one, Tensor) or not one.is_floating_point() or one.ndim != 4 or one.is_meta:
        return False
    if (len(one), *one.shape[2:]) != (images, places, places):
        return False
    sums = exact(one.detach()).sum(-1)
    return bool((one >= 0).all()) and bool(((sums - 1).abs() <= _ROUNDING).all())


def _enough(model: nn.Module) -> int:
    """How well a picture must fit: windows fit badly too, so more than a norm must speak for it."""
    return 1 if strides_differ(model) else 2


def _shaped_like(picture: Sequence[int], model: nn.Module, image: Tensor) -> bool:
    """Whether the picture has a shape that this network may give this image."""
    return in_proportion(picture, image.shape[2:]) or not treats_axes_alike(model, image)


def picture_fit(picture: Sequence[int], image: Tensor) -> int:
    """How well a picture of this size fits the image `[N, C, *S]`: 2 well, 1 perhaps, 0 not.

    It fits well if one stride leads from the image's height and width to the picture's, give or
    take a cell of padding; depth and time have strides of their own.
    """
    size = image.shape[2:]
    if any(not 0 < cells <= full for cells, full in zip(picture, size, strict=True)):
        return 0
    return 2 if one_stride(picture, size) else 1


def output_channels(layer: nn.Module, output: Tensor) -> Channels | None:
    """Where the module that computes the output of `layer` has its channels, if that is certain."""
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        computing = (child for child in reversed(layer) if not elementwise(child))
        telling = (output_channels(child, output) for child in computing)
        return next(telling, None)
    if isinstance(layer, nn.Linear):
        return "last" if _by_width({layer.out_features}, output) else None
    return _kind(layer)


def _by_width(widths: set[int], output: Tensor) -> bool:
    """Whether linear layers of these widths made the last axis; along a signal they mix time."""
    return output.ndim > 3 and output.shape[-1] in widths and output.shape[1] not in widths


def _looks_around(module: nn.Module) -> bool:
    """Whether the module computes on neighbours, so that its last axes must be places."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return max(module.kernel_size) > 1
    return isinstance(module, _POOLING)


def elementwise(layer: nn.Module) -> bool:
    """Whether the module keeps the layout of its input."""
    return type(layer).__name__.startswith(_ELEMENTWISE)


def makes_features(layer: nn.Module, features: int) -> bool:
    """Whether something inside `layer` produces `features` channels on its last axis."""
    return any(features in _last_axis(module) for module in layer.modules())


def ancestors_of(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules around the layer called `name`, from its parent to the model itself."""
    found = [model]
    for part in name.partition("#")[0].split(".")[:-1]:
        child = found[-1]._modules.get(part)
        if child is None:
            break
        found.append(child)
    return found[::-1]


def _made_of(layer: nn.Module, output: Tensor) -> Channels | None:
    """A block with convolutions and layer norms permutes somewhere, so it says nothing.

    Linear layers say something only if their width is that of the last axis and of no other.
    """
    kinds = {_kind(module) for module in layer.modules()} - {None}
    if kinds:
        return kinds.pop() if len(kinds) == 1 else None
    widths = {m.out_features for m in layer.modules() if type(m) is nn.Linear}
    return "last" if _by_width(widths, output) else None


def _before(model: nn.Module, layer: nn.Module) -> Channels | None:
    """The last telling module before a layer that computes nothing by which it could be told."""
    if any(_kind(module) or type(module) is nn.Linear for module in layer.modules()):
        return None
    before = list(itertools.takewhile(lambda module: module is not layer, model.modules()))
    return next((kind for kind in map(_kind, reversed(before)) if kind), None)


def _kind(module: nn.Module) -> Channels | None:
    if isinstance(module, _FIRST):
        return "first"
    return "last" if _plain_norm(module) else _permuted(module)


def _plain_norm(layer: nn.Module) -> bool:
    # Subclasses with a forward of their own (LayerNorm2d) permute around the normalization.
    if not isinstance(layer, nn.LayerNorm):
        return False
    return type(layer).forward is nn.LayerNorm.forward and len(layer.normalized_shape) == 1


def _last_axis(module: nn.Module) -> Iterator[int]:
    """Channels a single module produces on the last axis."""
    if isinstance(module, nn.Linear):
        yield module.out_features
    elif isinstance(module, nn.MultiheadAttention):
        yield module.embed_dim
    elif isinstance(module, nn.LayerNorm) and _plain_norm(module):
        yield module.normalized_shape[0]


def _permuted(layer: nn.Module) -> Channels | None:
    """Layout behind a permutation module (torchvision's `Permute`)."""
    dims = getattr(layer, "dims", None)
    if type(layer).__name__ != "Permute" or not isinstance(dims, Sequence):
        return None
    if list(dims) == [0, len(dims) - 1, *range(1, len(dims) - 1)]:
        return "first"
    return "last" if list(dims) == [0, *range(2, len(dims)), 1] else None
