"""Regions and pixels that people point at, on the photo, brought to what the model gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from camkit_core import Geometry, Picture, TargetError

_STRETCH = 0.02
"""By how much the sides of a mask may differ from those of the photo before it is another one."""


def read_mask(path: Path) -> Tensor:
    """Mask `[H, W]` of an image file: true where it is brighter than half its brightest pixel.

    In a palette image, which holds labels and no brightness, true where the label is not 0.

    Raises:
        TargetError: no such file, no image, or nothing in it.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise TargetError(f"the mask {path} does not exist")
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            labels = image.mode in ("P", "1")
            values = _values(image if labels else image.convert("RGB").convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise TargetError(f"the mask {path} cannot be read as an image: {error}") from error
    mask = values > (0 if labels else 0.5 * float(values.max()))
    if not bool(mask.any()):
        raise TargetError(f"the mask {path} is empty: paint the region white on black")
    return mask


def _values(image: object) -> Tensor:
    from PIL.Image import Image

    assert isinstance(image, Image)
    if image.mode == "1":
        image = image.convert("L")
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width)


def on_input(mask: Tensor, pictures: Sequence[Picture], name: str) -> Tensor:
    """A mask of the photo as the model gets it: `[N, H, W]` for N pictures, else as it is.

    A mask that has the size of the input rather than the photo's is one of the input.

    Raises:
        TargetError: the mask has other proportions than the photo.
    """
    if not pictures:
        return mask
    return torch.stack([_cut(mask, picture.geometry, name) for picture in pictures])


def _cut(mask: Tensor, geometry: Geometry, name: str) -> Tensor:
    size, source = tuple(mask.shape), geometry.source_size
    if size == geometry.input_size != source:
        return mask
    stretch = size[0] * source[1] / (size[1] * source[0])
    if abs(stretch - 1) > _STRETCH:
        raise TargetError(
            f"{name} is {size[1]} x {size[0]} pixels, but the photo is {source[1]} x {source[0]}: "
            "a mask shows the photo, or what the model gets"
        )
    rows, columns = (_places(geometry, axis, size[axis]) for axis in (0, 1))
    inside = (rows >= 0)[:, None] & (columns >= 0)[None]
    return mask[rows.clamp_min(0)][:, columns.clamp_min(0)] & inside


def _places(geometry: Geometry, axis: int, length: int) -> Tensor:
    """For each input pixel along an axis, the mask's pixel it shows; -1 where it shows none."""
    centers = torch.arange(geometry.input_size[axis], dtype=torch.float64) + 0.5
    photo = geometry.offset[axis] + geometry.scale[axis] * centers
    places = (photo * length / geometry.source_size[axis]).floor().long()
    return places.where((places >= 0) & (places < length), -1)


def pixel_on_input(at: tuple[float, ...], picture: Picture) -> tuple[float, float]:
    """`(x, y)` in pixels of the model's input for a pixel of the photo.

    Raises:
        TargetError: the pixel is not on the photo, or not on the part of it that the model gets.
    """
    geometry = picture.geometry
    pixel = f"pixel ({', '.join(f'{one:g}' for one in at)})"
    if len(at) != 2:
        raise TargetError(f"{pixel}: a pixel of a photo has two coordinates, x and y")
    height, width = geometry.source_size
    if not (0 <= at[0] < width and 0 <= at[1] < height):
        raise TargetError(f"{pixel} is not on the photo of {width} x {height} pixels")
    found = [
        (at[1 - axis] + 0.5 - geometry.offset[axis]) / geometry.scale[axis] - 0.5 for axis in (1, 0)
    ]
    x, y = (max(one, 0.0) if one > -0.5 else one for one in found)
    if not (0 <= x < geometry.input_size[1] and 0 <= y < geometry.input_size[0]):
        raise TargetError(
            f"{pixel} of the photo is cut away before the model sees it (a centre crop); choose "
            "one that is nearer to the middle"
        )
    return x, y
