"""Putting a map back where it belongs on the original photo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from camkit_core import Geometry, InputError


def identity(height: int, width: int) -> Geometry:
    """Geometry of a picture that is the model's input itself."""
    size = (height, width)
    return Geometry(source_size=size, input_size=size, scale=(1.0, 1.0), offset=(0.0, 0.0))


def place(
    field: Tensor, geometry: Geometry, canvas: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Values of a map at the pixel centers of the photo, by exact bilinear sampling.

    The center `p` of a photo pixel lies at `(p - offset) / (scale * input_size)` of the model's
    view, a fraction of its height or width; there the map is read, with pixel centers at half
    integers. The map may have any resolution: only the fraction matters. Where a canvas pixel
    covers several map pixels, that many samples are averaged.

    Args:
        field: `[h, w]`.
        geometry: where the model's view lies on the photo.
        canvas: height and width in which the whole photo is drawn; by default its own.

    Returns:
        Values `[H, W]`, 0 outside the model's view, and a mask `[H, W]` of that view.

    Raises:
        InputError: the geometry has no area.
    """
    _check(geometry)
    canvas = canvas or geometry.source_size
    values = field
    masks = []
    for axis in (0, 1):
        start, extent = view(geometry, axis)
        pixel = geometry.source_size[axis] / canvas[axis]
        values = resample(values, axis, canvas[axis], pixel, start, extent)
        center = _centers(canvas[axis], pixel, values.device)
        masks.append((center >= start) & (center < start + extent))
    inside = masks[0][:, None] & masks[1][None, :]
    return torch.where(inside, values, 0), inside


def view(geometry: Geometry, axis: int) -> tuple[float, float]:
    """Start and extent of the model's view along an axis of the photo, in photo pixels."""
    return geometry.offset[axis], geometry.scale[axis] * geometry.input_size[axis]


def resample(
    values: Tensor, axis: int, count: int, pixel: float, start: float, extent: float
) -> Tensor:
    """Linear interpolation along one axis, held constant beyond its outermost pixel centers.

    Args:
        values: the map; `axis` spans `extent` photo pixels from photo coordinate `start`.
        axis: which axis.
        count: number of canvas pixels.
        pixel: photo pixels per canvas pixel.
        start: photo coordinate of the first edge.
        extent: photo pixels covered.
    """
    n = values.shape[axis]
    each = max(1, math.ceil(pixel * n / extent - 1e-9))
    center = _centers(count * each, pixel / each, values.device)
    position = ((center - start) / extent * n - 0.5).clamp(0, n - 1)
    lower = position.floor().long()
    upper = (lower + 1).clamp(max=n - 1)
    weight = (position - lower).to(values.dtype)
    shape = [1] * values.ndim
    shape[axis] = -1
    out = torch.lerp(
        values.index_select(axis, lower), values.index_select(axis, upper), weight.view(shape)
    )
    if each == 1:
        return out
    return out.reshape(*out.shape[:axis], count, each, *out.shape[axis + 1 :]).mean(axis + 1)


def _centers(count: int, pixel: float, device: torch.device) -> Tensor:
    return (torch.arange(count, dtype=torch.float64, device=device) + 0.5) * pixel


def _check(geometry: Geometry) -> None:
    sizes = (*geometry.source_size, *geometry.input_size, *geometry.scale)
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise InputError(
            f"{geometry} has no area, so the map has no place on the photo; sizes and scale must "
            "be positive"
        )
