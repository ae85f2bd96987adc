"""Resize, centre crop, scale to [0, 1], normalise: the preprocessing of image classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from camkit_core import InputError, Picture, Prepared
from camkit_tasks.photos.geometry import Size, crop_start, input_geometry, resized_size
from camkit_tasks.torchvision_import import import_torchvision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_PIXELS = 100_000_000
"""Largest resized photo; only absurd aspect ratios get there (a 1 x 50000 strip, say)."""

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_DEEP_MODES = ("I", "F")  # "I;16" and its kin begin with I as well

Positive = Annotated[int, Field(gt=0, strict=True)]
Form = Literal["photo", "bytes", "float"]


class ImagePreprocess(BaseModel):
    """From a photo to a batch of one, with the exact way back to the photo.

    The defaults are those of ImageNet classifiers. With `resize_on="photo"` (Pillow, always
    antialiased) the result equals torchvision's transforms applied to a PIL image; `"bytes"` and
    `"float"` resize the tensor before or after scaling to [0, 1], as pipelines do that convert
    first, and need torchvision.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Positive | tuple[Positive, Positive] | None = Field(
        default=256, description="new short side, or (height, width), or None to keep the size"
    )
    longest: Positive | None = Field(
        default=None, description="the long side at most; a short side given as `resize` gives way"
    )
    crop: tuple[Positive, Positive] | None = Field(
        default=(224, 224), description="centre crop (height, width); padded with black if larger"
    )
    crop_rounding: Literal["even", "down"] = Field(
        default="even", description="where half a pixel goes: as torchvision, or as transformers"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, ...] = Field(default=IMAGENET_MEAN, description="per channel, on [0, 1]")
    std: tuple[float, ...] = Field(default=IMAGENET_STD, description="per channel, on [0, 1]")
    gray: bool = Field(default=False, description="one luminance channel instead of RGB")
    bgr: bool = Field(default=False, description="blue first; mean and std are in that order too")
    resize_on: Form = Field(default="photo", description="what is resized")
    antialias: bool = Field(default=True, description="only where a tensor is resized")

    @model_validator(mode="after")
    def _check_channels(self) -> ImagePreprocess:
        channels = 1 if self.gray else 3
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(
                f"mean and std need {channels} values for {'gray' if self.gray else 'RGB'} photos, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        return self

    def __call__(self, photo: Image.Image, /) -> Prepared:
        """Inputs `[1, C, H, W]` (float32, C = 3 or 1), the RGB photo and its geometry.

        The EXIF orientation, if the photo still has one, is applied first.

        Raises:
            InputError: not a PIL image, more than 8 bits per channel, or an absurd aspect ratio.
        """
        upright = _checked(photo)
        size = (upright.height, upright.width)
        resized = resized_size(size, self.resize, self.longest)
        _check_size(size, resized)
        shown = upright.convert("L") if self.gray else upright
        pixels = self._pixels(shown, resized)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        geometry = input_geometry(size, resized, self.crop, down=self._down)
        if self.bgr:
            pixels = pixels.flip(0)
        return Prepared(pixels.sub(mean).div_(std)[None], (Picture(upright, geometry),))

    def describe(self) -> Mapping[str, Any]:
        """All settings, JSON-friendly."""
        return self.model_dump(mode="json")

    @property
    def _down(self) -> bool:
        return self.crop_rounding == "down"

    def _start(self, size: Size) -> Size:
        """Top left corner of the crop."""
        height, width = self.crop or size
        down = self._down
        return crop_start(size[0], height, down=down), crop_start(size[1], width, down=down)

    def _pixels(self, photo: Image.Image, resized: Size) -> Tensor:
        """Resized, cropped values in [0, 1], `[C, H, W]`."""
        if self.resize_on == "photo":
            photo = photo.resize(resized[::-1], _PILLOW[self.interpolation])
            return _to_bytes(self._cut_photo(photo)).float().div_(255)
        pixels = _to_bytes(photo)
        if self.resize_on == "float":
            pixels = pixels.float().div_(255)
        pixels = self._cut_tensor(self._resize_tensor(pixels, resized))
        return pixels if self.resize_on == "float" else pixels.float().div_(255)

    def _resize_tensor(self, pixels: Tensor, resized: Size) -> Tensor:
        v2 = import_torchvision("transforms.v2")
        mode = v2.InterpolationMode(self.interpolation)
        result: Tensor = v2.functional.resize(
            pixels, list(resized), interpolation=mode, antialias=self.antialias
        )
        return result

    def _cut_photo(self, photo: Image.Image) -> Image.Image:
        if self.crop is None:
            return photo
        height, width = self.crop
        top, left = self._start((photo.height, photo.width))
        return photo.crop((left, top, left + width, top + height))  # outside is black

    def _cut_tensor(self, pixels: Tensor) -> Tensor:
        if self.crop is None:
            return pixels
        height, width = pixels.shape[-2:]
        top, left = self._start((height, width))
        below, right = self.crop[0] - (height - top), self.crop[1] - (width - left)
        return functional.pad(pixels, (-left, right, -top, below))  # negative padding crops


def _to_bytes(photo: Image.Image) -> Tensor:
    """`[C, H, W]` uint8."""
    values = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8)
    return values.view(photo.height, photo.width, -1).permute(2, 0, 1)


def _checked(photo: Image.Image) -> Image.Image:
    """The photo upright and in RGB, or the reason why not."""
    if not isinstance(photo, Image.Image):
        raise InputError(
            f"preprocessing expects a PIL image, got {type(photo).__name__}; "
            "use camkit.open_photo(path) or PIL.Image.fromarray(array)"
        )
    if photo.mode.startswith(_DEEP_MODES):
        raise InputError(
            f"photo of mode {photo.mode!r} has more than 8 bits per channel, which RGB conversion "
            "would clip; scale it to 0..255 and convert to 'L' or 'RGB' first"
        )
    return ImageOps.exif_transpose(photo).convert("RGB")


def _check_size(size: Size, resized: Size) -> None:
    if resized[0] * resized[1] > MAX_PIXELS:
        raise InputError(
            f"photo of {size[1]}x{size[0]} pixels would be resized to {resized[1]}x{resized[0]}, "
            f"more than {MAX_PIXELS} pixels; crop it to a sane aspect ratio first"
        )
