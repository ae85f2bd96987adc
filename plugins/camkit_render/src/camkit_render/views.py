"""What lies under the map: the photo, or the input tensor made visible."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from camkit_core import Explanation, Geometry, InputError
from camkit_render.colors import Pixels

_BLOCKY = 3  # from this enlargement on, pixels are shown as squares instead of being smoothed


def fit(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Height and width with the longer side `longest`, same shape, nothing below one pixel."""
    if longest is None:
        return height, width
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(pixels: Pixels, canvas: tuple[int, int]) -> Pixels:
    """The whole picture at `canvas` (height, width); the same bytes if that is its size."""
    height, width = canvas
    if pixels.shape[:2] == canvas:
        return pixels
    blocky = height >= _BLOCKY * pixels.shape[0]
    how = Image.Resampling.NEAREST if blocky else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def photo_of(explanation: Explanation, row: int) -> tuple[Image.Image, Geometry] | None:
    """The original photo of one image and the model's view on it; None if there is none.

    Raises:
        InputError: photos and images, or a photo and its geometry, do not belong together.
    """
    if not explanation.pictures:
        return None
    if len(explanation.pictures) != len(explanation):
        raise InputError(
            f"{len(explanation.pictures)} pictures for {len(explanation)} images: give one per "
            "image with explanation.on(...)"
        )
    picture = explanation.pictures[row]
    width, height = picture.photo.size
    if (height, width) != tuple(picture.geometry.source_size):
        made_for = "x".join(map(str, reversed(picture.geometry.source_size)))
        raise InputError(
            f"the photo of image {row} is {width}x{height} (width x height), but its geometry was "
            f"made for {made_for}, so the map would land in the wrong place; give the photo the "
            "input was made from, with its EXIF orientation applied"
        )
    return _rgb(picture.photo), picture.geometry


def _rgb(photo: Image.Image) -> Image.Image:
    if photo.mode == "RGB":
        return photo
    if not photo.has_transparency_data:
        return photo.convert("RGB")
    photo = photo.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")


def stretched(explanation: Explanation, row: int) -> Pixels:
    """The input tensor of one image as RGB bytes, `[*S, 3]`.

    This is a stretched view, not the photo: all channels together are moved to 0-255 by the
    image's own smallest and largest finite value, so that normalised tensors become visible;
    absolute brightness is lost. Three channels are taken as red, green, blue; any other number is
    averaged to grey. A constant input is mid-grey; NaN is black.

    Raises:
        InputError: the tensor has no axes that match the map's.
    """
    values = channels(explanation, row)
    if len(values) != 3:
        values = values.mean(0, keepdim=True).expand(3, *values.shape[1:])
    low, high = finite_range(values)
    if high > low:
        unit = (values.nan_to_num(low, high, low) - low) / (high - low)
    else:
        unit = torch.full_like(values, 0.5)
    return (unit * 255).round().to(torch.uint8).movedim(0, -1).numpy()


def finite_range(values: Tensor) -> tuple[float, float]:
    """Smallest and largest finite value; (0, 0) if there is none."""
    finite = values[values.isfinite()]
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)


def channels(explanation: Explanation, row: int) -> Tensor:
    """The input of one image as float32 `[C, *S]` on the CPU, channels last understood.

    Raises:
        InputError: the tensor has no axes that match the map's.
    """
    space = tuple(explanation.maps.shape[1:])
    values = explanation.inputs[row].detach().to("cpu", torch.float32)
    if values.ndim == len(space):
        return values[None]
    if values.ndim != len(space) + 1:
        raise InputError(
            f"an input of shape {list(explanation.inputs.shape)} cannot be shown under maps of "
            f"{list(space)}; give the photos with explanation.on(...)"
        )
    last = tuple(values.shape[:-1]) == space and tuple(values.shape[1:]) != space
    return values.movedim(-1, 0) if last else values
