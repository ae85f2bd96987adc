"""Whether a picture has the proportions that a network gives an image: sizes and strides only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

_MARGIN = 1.5
"""How much one side may be stretched: detectors pad their images to multiples of 32, say."""
_ADAPTIVE = (
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_SLIDING = (
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)


def one_stride(picture: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one stride leads from a size to the picture's, give or take a cell of padding.

    Only the last two axes are compared: depth and time have strides of their own.
    """
    plane = list(zip(picture, size, strict=True))[-2:]
    # A stride r gives between full/r - 1 and full/r + 1 cells on every axis.
    low = max(full / (cells + 1) for cells, full in plane)
    high = min(full / max(cells - 1, 0.5) for cells, full in plane)
    return low <= high


def in_proportion(picture: Sequence[int], size: Sequence[int]) -> bool:
    """Whether the picture has about the image's shape, or that of a square, larger or smaller.

    Models that resize within make a square of any image.
    """
    squared = [1] * len(size)
    return any(_about(picture, whole) for whole in (size, squared))


def _about(picture: Sequence[int], size: Sequence[int]) -> bool:
    if not all(picture):
        return False
    steps = [full / cells for cells, full in zip(picture, size, strict=True)][-2:]
    return one_stride(picture, size) or max(steps) <= _MARGIN * min(steps)


def strides_differ(model: nn.Module) -> bool:
    """Whether some convolution has another stride down than across."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    return any(len(set(one.stride[-2:])) > 1 for one in convolutions)


def treats_axes_alike(model: nn.Module, image: Tensor) -> bool:
    """Whether no module strides, cuts or pools rows otherwise than columns of this image.

    Without padding a border of the same width is cut off all sides, which takes a larger part of
    the shorter ones.
    """
    square = len(set(image.shape[-2:])) == 1
    return not any(_differs(module, square) for module in model.modules())


def _differs(module: nn.Module, square: bool) -> bool:
    if isinstance(module, _ADAPTIVE):
        return len(set(_plane(module.output_size))) > 1
    if not isinstance(module, _SLIDING):
        return False
    strides = _plane(module.stride)
    borders = _borders(module)
    cut = any(border >= stride for border, stride in zip(borders, strides, strict=True))
    return len(set(strides)) > 1 or len(set(borders)) > 1 or (cut and not square)


def _borders(module: Any) -> list[int]:
    """Cells that are lost at both ends together, before the stride."""
    if module.padding == "same":
        return [0] * len(_plane(module.kernel_size))
    kernel, dilation = _plane(module.kernel_size), _plane(getattr(module, "dilation", 1))
    padding = _plane(0 if module.padding == "valid" else module.padding)
    reach = zip(kernel, dilation, padding, strict=False)
    return [step * (side - 1) - 2 * pad for side, step, pad in reach]


def _plane(value: Any) -> tuple[Any, ...]:
    """The last two of one number per axis, or of one for all."""
    return tuple(value)[-2:] if isinstance(value, Sequence) else (value, value)
