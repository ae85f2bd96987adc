"""Where the channels of a layer's output are: what its shape and the modules around it say.

The only place that judges this. Plugins that know a family use the same words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

Channels = Literal["first", "last"]

_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
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
    of convolutions only, or where strides differ between rows and columns.
    """
    first, last = (picture_fit(p, image) for p in (output.shape[2:], output.shape[1:-1]))
    certain = output_channels(layer, output)
    if certain == "first" and first:
        return certain
    if certain == "last" and last >= _enough(model):
        return certain
    if first != last and max(first, last) == 2:
        return "first" if first > last else "last"
    likely = _made_of(layer, output) or _before(model, layer)
    return None if likely == "last" and last < _enough(model) else likely


def _enough(model: nn.Module) -> int:
    """How well a picture must fit: windows fit badly too, so more than a norm must speak for it."""
    return 1 if _strides_differ(model) else 2


def _strides_differ(model: nn.Module) -> bool:
    """Whether some convolution has another stride down than across."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    return any(len(set(one.stride[-2:])) > 1 for one in convolutions)


def picture_fit(picture: Sequence[int], image: Tensor) -> int:
    """How well a picture of this size fits the image `[N, C, *S]`: 2 well, 1 perhaps, 0 not.

    It fits well if one stride leads from the image's height and width to the picture's, give or
    take a cell of padding; depth and time have strides of their own.
    """
    size = image.shape[2:]
    if any(not 0 < cells <= full for cells, full in zip(picture, size, strict=True)):
        return 0
    plane = list(zip(picture, size, strict=True))[-2:]
    # A stride r gives between full/r - 1 and full/r + 1 cells on every axis.
    low = max(full / (cells + 1) for cells, full in plane)
    high = min(full / max(cells - 1, 0.5) for cells, full in plane)
    return 2 if low <= high else 1


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
