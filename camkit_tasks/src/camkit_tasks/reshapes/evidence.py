"""What shapes and modules say about the axes of a layer's output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import nn

Layout = Literal["first", "last"]

_FIRST_AXIS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
)
_ELEMENTWISE = ("Dropout", "DropPath", "StochasticDepth", "Identity", "GELU", "ReLU", "SiLU")

# Families whose blocks permute in plain code, so that no module inside tells the layout.
# Exact names: timm's SwinTransformerV2Cr, for one, is channel-first.
_FAMILIES: dict[str, Layout] = {
    "SwinTransformer": "last",
    "SwinTransformerV2": "last",
    "SwinTransformer3d": "last",
    "ConvNeXt": "first",
    "MaxVit": "first",
}


def could_be_reduced_to(image: Sequence[int], spatial: Sequence[int]) -> bool:
    """Whether one stride takes the image's size to `spatial`, give or take a cell of padding."""
    if any(s < 1 or s > full for s, full in zip(spatial, image, strict=True)):
        return False
    low = max(full / (s + 1) for s, full in zip(spatial, image, strict=True))
    high = min(full / max(s - 1, 0.5) for s, full in zip(spatial, image, strict=True))
    return low <= high


def output_layout(layer: nn.Module) -> Layout | None:
    """Where the module that computes the output of `layer` has its channels, if that is certain."""
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        telling = (output_layout(child) for child in reversed(layer) if not elementwise(child))
        return next(telling, None)
    if isinstance(layer, _FIRST_AXIS):
        return "first"
    if _on_last_axis(layer):
        return "last"
    return _permuted(layer)


def elementwise(layer: nn.Module) -> bool:
    """Whether the module keeps the layout of its input."""
    return type(layer).__name__.startswith(_ELEMENTWISE)


def has_features(layer: nn.Module, features: int) -> bool:
    """Whether something inside `layer` produces `features` channels on its last axis."""
    return any(features in _last_axis(module) for module in layer.modules())


def family_layout(ancestors: Sequence[nn.Module]) -> Layout | None:
    """Layout in a known family; `ancestors` from the nearest to the model itself."""
    for module in ancestors:
        for base in type(module).__mro__:
            if base.__name__ in _FAMILIES:
                return _FAMILIES[base.__name__]
    return None


def ancestors_of(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules around a layer, from its parent to the model itself."""
    path = name.partition("#")[0].split(".")[:-1]
    found = [model]
    for part in path:
        child = found[-1]._modules.get(part)
        if child is None:
            break
        found.append(child)
    return found[::-1]


def _on_last_axis(layer: nn.Module) -> bool:
    # Subclasses with a forward of their own (LayerNorm2d) permute around the normalisation.
    if isinstance(layer, nn.LayerNorm):
        plain = type(layer).forward is nn.LayerNorm.forward
        return plain and len(layer.normalized_shape) == 1
    return isinstance(layer, nn.Linear)


def _last_axis(module: nn.Module) -> Iterator[int]:
    """Channels a single module produces on the last axis."""
    if isinstance(module, nn.Linear):
        yield module.out_features
    elif isinstance(module, nn.MultiheadAttention):
        yield module.embed_dim
    elif isinstance(module, nn.LayerNorm) and _on_last_axis(module):
        yield module.normalized_shape[0]


def _permuted(layer: nn.Module) -> Layout | None:
    """Layout behind a permutation module (torchvision's `Permute`)."""
    dims = getattr(layer, "dims", None)
    if type(layer).__name__ != "Permute" or not isinstance(dims, Sequence):
        return None
    if list(dims) == [0, len(dims) - 1, *range(1, len(dims) - 1)]:
        return "first"
    return "last" if list(dims) == [0, *range(2, len(dims)), 1] else None
