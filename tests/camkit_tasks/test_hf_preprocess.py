"""Settings of image processors, translated and proven, without the library that has them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from camkit_core import ModelError
from camkit_tasks import ImagePreprocess
from camkit_tasks.loaders.hf_preprocess import translated
from camkit_tasks.photos.geometry import resized_size

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


class Processor(SimpleNamespace):
    """Resize on bytes, crop that rounds down, scale, normalise, blue first: as configured."""

    def __init__(self, **settings: object) -> None:
        default = {
            "backend": "torchvision",
            "resample": 2,
            "do_resize": True,
            "size": {"height": 40, "width": 52},
            "do_center_crop": False,
            "crop_size": None,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
        }
        super().__init__(**{**default, **settings})

    def __call__(self, images: Image.Image, return_tensors: str) -> dict[str, Tensor]:
        pixels = v2.functional.pil_to_tensor(images)
        if self.do_resize:
            pixels = v2.functional.resize(pixels, self.side(pixels), antialias=True)
        if self.do_center_crop:
            height, width = self.crop_size["height"], self.crop_size["width"]
            top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
            pixels = pixels[:, top : top + height, left : left + width]
        values = pixels.float() * self.rescale_factor if self.do_rescale else pixels.float()
        if self.do_normalize:
            mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
            values = (values - mean) / std
        flipped = getattr(self, "do_flip_channel_order", False)
        return {"pixel_values": (values.flip(0) if flipped else values)[None]}

    def side(self, pixels: Tensor) -> list[int]:
        size = self.size
        if "height" in size:
            return [size["height"], size["width"]]
        height, width = pixels.shape[1:]
        return list(resized_size((height, width), size["shortest_edge"], size.get("longest_edge")))


CROP = {"do_center_crop": True, "crop_size": {"height": 33, "width": 36}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"shortest_edge": 38}},
        {"size": {"shortest_edge": 40, "longest_edge": 47}},
        {"size": {"shortest_edge": 40}, **CROP},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False, "do_flip_channel_order": True},
        {"do_resize": False},
    ],
)
def test_settings_are_translated(settings):
    processor = Processor(**settings)
    preprocess = translated(processor)
    values = torch.randint(0, 256, (3 * 61 * 83,), generator=torch.Generator().manual_seed(0))
    photo = Image.frombytes("RGB", (83, 61), bytes(values.tolist()))
    wanted = processor(photo, "pt")["pixel_values"]
    scale = float(wanted.abs().max())
    torch.testing.assert_close(preprocess(photo).inputs, wanted, rtol=0, atol=2e-6 * scale)


def test_a_translation_that_gives_other_numbers_is_refused():
    class Rounds(Processor):
        def __call__(self, images: Image.Image, return_tensors: str) -> dict[str, Tensor]:
            return {"pixel_values": super().__call__(images, return_tensors)["pixel_values"] + 0.01}

    with pytest.raises(ModelError, match="gives other values on a test photo"):
        translated(Rounds())


@pytest.mark.parametrize("size", [{"max_height": 9, "max_width": 9}, {"longest_edge": 9}])
def test_a_size_whose_geometry_is_not_known_is_refused(size):
    with pytest.raises(ModelError, match=r"Processor is not understood \(KeyError.*every step"):
        translated(Processor(size=size))


# -- what image processors do that torchvision's transforms do not ---------------------------------


def test_the_long_side_has_a_limit_and_the_geometry_knows():
    preprocess = ImagePreprocess(resize=40, longest=60, crop=None)
    assert resized_size((50, 100), 40, 60) == (30, 60)
    assert resized_size((100, 50), 40, 60) == (60, 30)
    assert resized_size((50, 60), 40, 60) == (40, 48)
    assert resized_size((50, 50), 40, 30) == (30, 30)
    prepared = preprocess(Image.new("RGB", (100, 50)))
    assert prepared.inputs.shape == (1, 3, 30, 60)
    assert prepared.pictures[0].geometry.scale == (50 / 30, 100 / 60)


@pytest.mark.parametrize(("rounding", "start"), [("even", 2), ("down", 1)])
def test_half_a_pixel_of_a_crop_goes_where_it_is_told_and_the_geometry_knows(rounding, start):
    column = torch.arange(13).expand(13, 13)
    photo = Image.frombytes("L", (13, 13), bytes(column.flatten().tolist()))
    preprocess = ImagePreprocess(
        resize=None, crop=(10, 10), crop_rounding=rounding, gray=True, mean=(0.0,), std=(1 / 255,)
    )
    prepared = preprocess(photo)
    assert round(float(prepared.inputs[0, 0, 0, 0])) == start
    assert prepared.pictures[0].geometry.offset == (start, start)


def test_blue_first():
    photo = Image.new("RGB", (4, 4), (255, 0, 51))
    preprocess = ImagePreprocess(resize=None, crop=None, bgr=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    torch.testing.assert_close(preprocess(photo).inputs[0, :, 0, 0], torch.tensor([0.2, 0.0, 1.0]))
