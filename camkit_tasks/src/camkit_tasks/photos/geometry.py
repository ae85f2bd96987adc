"""Where a resized and centre-cropped input lies on its photo: sizes and offsets, no pixels.

The rounding rules are torchvision's, so that the geometry is exact for its published presets.
"""

from __future__ import annotations

from camkit_core import Geometry

Size = tuple[int, int]
"""Height, width."""


def resized_size(size: Size, resize: int | Size | None) -> Size:
    """Size after resizing; an int is the new short side, the long side is truncated."""
    if resize is None:
        return size
    if not isinstance(resize, int):
        return resize
    height, width = size
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)


def crop_start(length: int, crop: int) -> int:
    """First kept position of a centre crop along one axis; negative where the crop pads."""
    if crop > length:
        return -((crop - length) // 2)
    return round((length - crop) / 2.0)


def input_geometry(size: Size, resized: Size, crop: Size | None) -> Geometry:
    """Geometry of an input cut out of a photo of `size` that was resized to `resized`."""
    shown = crop or resized
    scale = (size[0] / resized[0], size[1] / resized[1])
    start = (crop_start(resized[0], shown[0]), crop_start(resized[1], shown[1]))
    return Geometry(
        source_size=size,
        input_size=shown,
        scale=scale,
        offset=(scale[0] * start[0], scale[1] * start[1]),
    )
