"""Where a resized and centre-cropped input lies on its photo: sizes and offsets, no pixels.

The rounding rules are torchvision's, so that the geometry is exact for its published presets, with
the two deviations of transformers' image processors: centre crops that always round down, and a
limit of the long side.
"""

from __future__ import annotations

from camkit_core import Geometry

Size = tuple[int, int]
"""Height, width."""


def resized_size(size: Size, resize: int | Size | None, longest: int | None = None) -> Size:
    """Size after resizing; an int is the new short side, the long side is truncated.

    Where the long side would exceed `longest`, both shrink so that it does not.
    """
    if resize is None:
        return size
    if not isinstance(resize, int):
        return resize
    short, long = sorted(size)
    exact: float = resize
    if longest is not None and long / short * resize > longest:
        exact = longest * short / long
    sides = (round(exact), int(exact * long / short))
    return sides[::-1] if size[1] < size[0] else sides


def crop_start(length: int, crop: int, *, down: bool = False) -> int:
    """First kept position of a centre crop along one axis; negative where the crop pads.

    Half a pixel goes to the even side, or always `down`.
    """
    if crop > length:
        return -((crop - length) // 2)
    return (length - crop) // 2 if down else round((length - crop) / 2.0)


def input_geometry(size: Size, resized: Size, crop: Size | None, *, down: bool = False) -> Geometry:
    """Geometry of an input cut out of a photo of `size` that was resized to `resized`."""
    shown = crop or resized
    scale = (size[0] / resized[0], size[1] / resized[1])
    start = (
        crop_start(resized[0], shown[0], down=down),
        crop_start(resized[1], shown[1], down=down),
    )
    return Geometry(
        source_size=size,
        input_size=shown,
        scale=scale,
        offset=(scale[0] * start[0], scale[1] * start[1]),
    )
