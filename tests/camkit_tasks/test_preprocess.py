"""`ImagePreprocess` equals torchvision's transforms, and its geometry finds every pixel again."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import v2

from camkit_core import InputError
from camkit_tasks import ImagePreprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(451, 300), (300, 451), (224, 224), (97, 640), (61, 43)]  # width, height
SETTINGS = [
    {"resize": 256, "crop": (224, 224), "interpolation": "bilinear"},
    {"resize": 232, "crop": (224, 224), "interpolation": "bicubic"},
    {"resize": 255, "crop": (240, 240), "interpolation": "bilinear"},
    {"resize": 64, "crop": (100, 81), "interpolation": "bilinear"},  # pads
    {"resize": (73, 190), "crop": (61, 64), "interpolation": "bicubic"},
    {"resize": (50, 60), "crop": None, "interpolation": "nearest"},
    {"resize": None, "crop": (121, 90), "interpolation": "bilinear"},
    {"resize": None, "crop": None, "interpolation": "bilinear"},
]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A photo with detail at every scale."""
    width, height = size
    generator = torch.Generator().manual_seed(width * 1000 + height)
    pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.frombytes("RGB", size, bytes(pixels.flatten().tolist())).convert(mode)


def torchvision_chain(settings: dict, *, gray: bool = False) -> v2.Compose:
    steps: list = [v2.Grayscale(1)] if gray else []
    if settings["resize"] is not None:
        mode = v2.InterpolationMode(settings["interpolation"])
        steps.append(v2.Resize(settings["resize"], interpolation=mode))
    if settings["crop"] is not None:
        steps.append(v2.CenterCrop(settings["crop"]))
    mean, std = ((0.4,), (0.3,)) if gray else (MEAN, STD)
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    return v2.Compose(steps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_torchvision_on_photos(settings, size):
    photo = noise(size)
    ours = ImagePreprocess(**settings)(photo).inputs
    theirs = torchvision_chain(settings)(photo).as_subclass(torch.Tensor)[None]
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert theirs.std() > 0.1  # not a blank picture
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS[:3])
def test_gray_equals_torchvision(settings):
    photo = noise((451, 300))
    ours = ImagePreprocess(**settings, gray=True, mean=(0.4,), std=(0.3,))(photo).inputs
    theirs = torchvision_chain(settings, gray=True)(photo).as_subclass(torch.Tensor)[None]
    assert ours.shape[1] == 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def photo_of_coordinates(width: int, height: int) -> Image.Image:
    """Every pixel's colour says where it is; no pixel is black."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x % 256, y % 256, 128 + (x // 256) * 8 + y // 256], dim=-1)
    return Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist()))


def read_coordinates(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row and column on the photo of every input pixel `[3, H, W]`, and where it is padding."""
    x, y, high = pixels.mul(255).round().long()
    high = high - 128
    return y + 256 * (high % 8), x + 256 * (high // 8), high < 0


@pytest.mark.parametrize("size", [*SIZES, (1000, 501)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_geometry_finds_the_photo_pixel_behind_every_input_pixel(settings, size):
    width, height = size
    exact = {**settings, "interpolation": "nearest"}  # takes one photo pixel per input pixel
    preprocess = ImagePreprocess(**exact, mean=(0, 0, 0), std=(1, 1, 1))
    prepared = preprocess(photo_of_coordinates(width, height))
    rows, columns, padding = read_coordinates(prepared.inputs[0])
    geometry = prepared.pictures[0].geometry
    assert geometry.source_size == (height, width)
    assert geometry.input_size == tuple(prepared.inputs.shape[2:])
    inside = []
    for axis, found in ((0, rows), (1, columns)):
        centres = torch.arange(found.shape[axis], dtype=torch.float64) + 0.5
        on_photo = geometry.offset[axis] + geometry.scale[axis] * centres
        on_photo = on_photo.unsqueeze(1 - axis).expand(found.shape)
        inside.append((on_photo > 0) & (on_photo < geometry.source_size[axis]))
        # A centre that falls exactly between two photo pixels may be read from either.
        low, high = (on_photo - 1e-6).floor(), (on_photo + 1e-6).floor()
        assert bool((padding | (found == low) | (found == high)).all())
    assert torch.equal(padding, ~(inside[0] & inside[1]))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_geometry_of_filtered_resizing_keeps_the_centre_of_a_marker(interpolation):
    photo = Image.new("RGB", (451, 300))
    box = (301, 141, 316, 162)  # left, top, right, bottom
    photo.paste((255, 255, 255), box)
    preprocess = ImagePreprocess(
        resize=97, crop=(90, 80), interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1)
    )
    prepared = preprocess(photo)
    light = prepared.inputs[0, 0].double()
    geometry = prepared.pictures[0].geometry
    assert light.sum() > 10
    for axis, centre in ((0, (141 + 162) / 2), (1, (301 + 316) / 2)):
        weight = light.sum(1 - axis)
        position = (weight * (torch.arange(len(weight)) + 0.5)).sum() / weight.sum()
        found = geometry.offset[axis] + geometry.scale[axis] * position.item()
        assert found == pytest.approx(centre, abs=0.15)


def test_scale_is_the_true_ratio_not_the_nominal_one():
    geometry = ImagePreprocess()(noise((451, 300))).pictures[0].geometry
    resized_width = int(256 * 451 / 300)  # 384, truncated from 384.85
    assert geometry.scale == (300 / 256, 451 / resized_width)
    assert geometry.offset == (geometry.scale[0] * 16, geometry.scale[1] * 80)


def test_odd_crop_margins_round_to_even_as_torchvision_does():
    plain = {"resize": None, "mean": (0, 0, 0), "std": (1, 1, 1)}
    for length, expected in ((225, 0), (227, 2), (229, 2), (231, 4)):  # half to even
        prepared = ImagePreprocess(**plain, crop=(224, 224))(photo_of_coordinates(length, length))
        assert prepared.pictures[0].geometry.offset == (expected, expected)
        assert int(prepared.inputs[0, 0, 0, 0].mul(255).round()) == expected


def test_exif_orientation_is_applied_once():
    stored = photo_of_coordinates(40, 24)
    turned = stored.copy()
    turned.getexif()[0x0112] = 6  # shown rotated by 90 degrees
    preprocess = ImagePreprocess(resize=None, crop=None)
    prepared = preprocess(turned)
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(prepared.inputs, preprocess(upright).inputs)
    assert prepared.pictures[0].photo.tobytes() == upright.tobytes()
    again = preprocess(prepared.pictures[0].photo)
    assert torch.equal(again.inputs, prepared.inputs)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_eight_bit_modes_are_converted(mode):
    photo = noise((60, 50), mode)
    prepared = ImagePreprocess(resize=None, crop=None)(photo)
    expected = ImagePreprocess(resize=None, crop=None)(photo.convert("RGB"))
    assert torch.equal(prepared.inputs, expected.inputs)
    assert prepared.pictures[0].photo.mode == "RGB"


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_photos_are_refused_instead_of_clipped(mode):
    with pytest.raises(InputError, match=r"more than 8 bits per channel.*scale it to 0\.\.255"):
        ImagePreprocess()(Image.new(mode, (30, 30)))


def test_not_a_photo():
    with pytest.raises(
        InputError, match=r"expects a PIL image, got Tensor; use camkit\.open_photo"
    ):
        ImagePreprocess()(torch.zeros(3, 8, 8))


def test_absurd_aspect_ratio_is_refused_before_memory_is_spent():
    with pytest.raises(InputError, match=r"50000x1 pixels would be resized to 12800000x256"):
        ImagePreprocess()(Image.new("RGB", (50_000, 1)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": (0.5,), "std": (0.5,)}, "need 3 values for RGB"),
        ({"gray": True}, "need 1 values for gray"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be positive"),
        ({"crop": (0, 5)}, "greater than 0"),
        ({"resise": 5}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        ImagePreprocess(**settings)


def test_describe_is_json_and_rebuilds_the_preprocessing():
    preprocess = ImagePreprocess(resize=(30, 40), crop=None, interpolation="bicubic")
    text = json.dumps(preprocess.describe(), allow_nan=False)
    assert ImagePreprocess.model_validate_json(text) == preprocess


def test_inputs_own_their_memory():
    photo = noise((60, 50))
    preprocess = ImagePreprocess(resize=None, crop=None)
    first = preprocess(photo)
    first.inputs.zero_()
    assert preprocess(photo).inputs.abs().sum() > 0
