"""Which reshape a layer needs: patch arithmetic for tokens, evidence for channel-last maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from camkit_core import ChannelsFirst, ChannelsLast, Reshape
from camkit_tasks.reshapes.evidence import (
    ancestors_of,
    could_be_reduced_to,
    elementwise,
    family_layout,
    has_features,
    output_layout,
)
from camkit_tasks.reshapes.tokens import MAX_PREFIX, Tokens


def find_reshape(
    model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
) -> Reshape | None:
    """Reshape of a layer's output `[N, T, C]` or `[N, *S, C]`; None if the evidence is thin."""
    if not isinstance(output, Tensor) or image.ndim < 3 or len(output) != len(image):
        return None
    around = ancestors_of(model, layer_name)
    if output.ndim == 3:
        return _tokens(model, around, layer, output, image)
    if output.ndim == image.ndim:
        return _maps(around, layer, output, image)
    return None


# -- tokens ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Patches:
    """How a network cuts its input, and which numbers of prefix tokens it can have."""

    size: tuple[int, ...]
    prefixes: frozenset[int]
    known: bool  # declared by the network, not guessed from a convolution
    padded: bool = False


def _tokens(
    model: nn.Module, around: Sequence[nn.Module], layer: nn.Module, output: Tensor, image: Tensor
) -> Tokens | None:
    for patches in _patches(model, around, image):
        grid = _grid(patches, image.shape[2:])
        prefix = output.shape[1] - math.prod(grid)
        if prefix not in patches.prefixes:
            continue
        # [N, C, T] that happens to close as well, and 1-D maps, need a module's word.
        transposed = output.shape[2] - math.prod(grid) in patches.prefixes
        doubtful = image.ndim == 3 or (transposed and not patches.known)
        if not doubtful or has_features(layer, output.shape[2]):
            return Tokens(prefix=prefix, grid=grid)
    return None


def _grid(patches: _Patches, size: Sequence[int]) -> tuple[int, ...]:
    cells = zip(size, patches.size, strict=True)
    if patches.padded:
        return tuple(math.ceil(length / patch) for length, patch in cells)
    return tuple(length // patch for length, patch in cells)


def _patches(model: nn.Module, around: Sequence[nn.Module], image: Tensor) -> Iterator[_Patches]:
    """What the network around the layer declares, else its first patch-cutting convolution."""
    axes = image.ndim - 2
    for module in around:
        declared = _declared(module, axes)
        if declared is not None:
            yield declared
            return
    size = _cutting_convolution(model, image.shape[1], axes)
    if size is not None:
        yield _Patches(size, frozenset(range(MAX_PREFIX + 1)), known=False)


def _declared(module: nn.Module, axes: int) -> _Patches | None:
    """Patch size of a torchvision vision transformer, or of one built like timm's."""
    if hasattr(module, "class_token"):
        size = _per_axis(getattr(module, "patch_size", None), axes)
        return None if size is None else _Patches(size, frozenset({0, 1}), known=True)
    embed = getattr(module, "patch_embed", None)
    size = _per_axis(getattr(embed, "patch_size", None), axes)
    if size is None:
        return None
    prefix = getattr(module, "num_prefix_tokens", None)
    prefixes = {0, prefix} if isinstance(prefix, int) else range(MAX_PREFIX + 1)
    padded = bool(getattr(embed, "dynamic_img_pad", False))
    return _Patches(size, frozenset(prefixes), known=True, padded=padded)


def _cutting_convolution(model: nn.Module, channels: int, axes: int) -> tuple[int, ...] | None:
    """Kernel of the first convolution on the image, if it cuts without overlap."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd) and module.in_channels == channels:
            kernel, stride = tuple(module.kernel_size), tuple(module.stride)
            fits = kernel == stride and len(kernel) == axes and max(kernel) > 1
            return kernel if fits else None
    return None


def _per_axis(patch: Any, axes: int) -> tuple[int, ...] | None:
    if isinstance(patch, int) and patch > 0:
        return (patch,) * axes
    if isinstance(patch, Sequence) and len(patch) == axes and all(p > 0 for p in patch):
        return tuple(patch)
    return None


# -- maps with channels first or last ------------------------------------------------------------


def _maps(
    around: Sequence[nn.Module], layer: nn.Module, output: Tensor, image: Tensor
) -> Reshape | None:
    size = image.shape[2:]
    first = could_be_reduced_to(size, output.shape[2:])
    last = could_be_reduced_to(size, output.shape[1:-1])
    certain = output_layout(layer)
    if certain == "first":
        return ChannelsFirst() if first else None
    if certain == "last":
        return ChannelsLast() if last else None
    family = family_layout([layer, *around])
    if first and last:
        return _by_family(family, layer)
    if not last:
        return None
    evidence = family == "last" or any(
        has_features(module, output.shape[-1]) for module in (layer, *around[:1])
    )
    return ChannelsLast() if evidence else None


def _by_family(family: str | None, layer: nn.Module) -> Reshape | None:
    if family == "last":
        return ChannelsLast()
    # Inside a ConvNeXt block the maps are channel-last for a while; the block permutes them back.
    inner = elementwise(layer) or not list(layer.children())
    return ChannelsFirst() if family == "first" and not inner else None
