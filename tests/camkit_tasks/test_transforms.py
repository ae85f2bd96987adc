"""Torchvision transforms become an `ImagePreprocess` that gives the same numbers."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision import transforms as v1
from torchvision.transforms import v2

from camkit_core import ModelError
from camkit_tasks import ImagePreprocess
from camkit_tasks.photos.transforms import from_torchvision

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
V1_TAIL = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
V2_TAIL = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]

CHAINS = {
    "v1": v1.Compose([v1.Resize(70), v1.CenterCrop(64), *V1_TAIL]),
    "v1 bicubic, sizes": v1.Compose(
        [v1.Resize((50, 80), v1.InterpolationMode.BICUBIC), v1.CenterCrop((40, 71)), *V1_TAIL]
    ),
    "v1 bytes": v1.Compose([v1.Resize(70), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)]),
    "v1 resize on floats": v1.Compose(
        [v1.ToTensor(), v1.Resize(70, antialias=True), v1.CenterCrop(64), v1.Normalize(MEAN, STD)]
    ),
    "v1 without antialias": v1.Compose(
        [v1.ToTensor(), v1.Resize(70, antialias=False), v1.Normalize(MEAN, STD)]
    ),
    "v2": v2.Compose([v2.Resize(70), v2.CenterCrop(64), v2.ToImage(), *V2_TAIL]),
    "v2 resize on bytes": v2.Compose(
        [v2.ToImage(), v2.RGB(), v2.Resize(70, antialias=True), v2.CenterCrop(91), *V2_TAIL]
    ),
    "v2 bicubic on floats": v2.Compose(
        [v2.ToImage(), V2_TAIL[0], v2.Resize(70, interpolation=3), v2.CenterCrop(33), V2_TAIL[1]]
    ),
    "one value for all channels": v1.Compose(
        [v1.Resize(70), v1.ToTensor(), v1.Normalize(0.5, 0.2)]
    ),
    "gray": v1.Compose([v1.Grayscale(), v1.Resize(70), v1.ToTensor(), v1.Normalize([0.5], [0.2])]),
    "nested": v2.Compose([nn.Sequential(v2.Resize(70), nn.Identity()), v2.Compose(V1_TAIL)]),
    "nothing but conversion": v1.ToTensor(),
    "preset": models.ResNet18_Weights.DEFAULT.transforms(),
    "preset bicubic": models.EfficientNet_B1_Weights.DEFAULT.transforms(),
}


def photo(width: int, height: int) -> Image.Image:
    generator = torch.Generator().manual_seed(7)
    data = torch.randint(0, 256, (height * width * 3,), generator=generator)
    return Image.frombytes("RGB", (width, height), bytes(data.tolist()))


@pytest.mark.parametrize("size", [(451, 300), (123, 200), (72, 71)])
@pytest.mark.parametrize("name", CHAINS)
def test_same_numbers(name, size):
    chain, picture = CHAINS[name], photo(*size)
    ours = from_torchvision(chain)(picture).inputs[0]
    theirs = chain(picture).as_subclass(torch.Tensor)
    assert theirs.std() > 0.02
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_antialias_and_stage_are_read():
    read = from_torchvision(CHAINS["v1 without antialias"])
    assert (read.resize_on, read.antialias, read.interpolation) == ("float", False, "bilinear")
    assert from_torchvision(CHAINS["v2 resize on bytes"]).resize_on == "bytes"
    assert from_torchvision(CHAINS["v2 bicubic on floats"]).interpolation == "bicubic"
    assert from_torchvision(CHAINS["gray"]).gray


def test_every_published_classification_preset_is_understood():
    seen = 0
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            read = from_torchvision(preset)
            assert read.resize == preset.resize_size[0], weights
            assert read.crop == (preset.crop_size[0],) * 2, weights
            assert read.interpolation == preset.interpolation.value, weights
            seen += 1
    assert seen > 80


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([v1.RandomHorizontalFlip(), v1.ToTensor()], "RandomHorizontalFlip.*geometry is known"),
        ([v1.RandomResizedCrop(64), v1.ToTensor()], "RandomResizedCrop"),
        ([lambda image: image, v1.ToTensor()], "function.*not understood"),
        ([v1.CenterCrop(64), v1.Resize(70), v1.ToTensor()], "before CenterCrop"),
        ([v1.Resize(70), v1.Resize(60), v1.ToTensor()], "only one Resize"),
        ([v1.CenterCrop(70), v1.CenterCrop(60), v1.ToTensor()], "only one CenterCrop"),
        ([v1.Resize(70, max_size=90), v1.ToTensor()], "max_size"),
        ([*V1_TAIL, v1.CenterCrop(64)], "CenterCrop.*after Normalize"),
        ([v1.Resize(70)], "ends with a photo.*add ToTensor"),
        ([v2.ToImage(), v2.Normalize(MEAN, STD)], "expects a float tensor"),
        ([v2.ToImage(), v2.ToDtype(torch.float32)], "scale=True"),
        ([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)], "only float32"),
        ([v2.ToDtype(torch.float32, scale=True)], "put ToImage"),
        ([v1.ToTensor(), v1.Grayscale()], "Grayscale.*first step"),
        ([v1.Grayscale(3), v1.ToTensor()], "Grayscale"),
        ([v1.ToTensor(), v1.ToTensor()], "expects a photo"),
        ([v1.Resize(70, v1.InterpolationMode.HAMMING), v1.ToTensor()], "interpolation"),
        ([v1.ToTensor(), v1.Normalize([0.5] * 4, [0.5] * 4)], "need 3 values"),
    ],
)
def test_other_steps_are_refused(steps, words):
    with pytest.raises(ModelError, match=words) as caught:
        from_torchvision(v1.Compose(steps))
    assert "\n" not in str(caught.value)


class _Brighter(v1.ToTensor):
    """Looks like a known step and does something else."""

    def __call__(self, pic):
        return super().__call__(pic) * 0.9


class _Doubled(v1.ToTensor):
    def __call__(self, pic):
        return super().__call__(pic)[:, ::2]


class _Broken(v1.ToTensor):
    def __call__(self, pic):
        raise KeyError("no such lens")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (_Brighter(), r"other values on a test photo \(by 0\.0"),
        (_Doubled(), r"gives \[3, \d+, \d+\] where its steps"),
        (_Broken(), "fails on a plain RGB photo.*no such lens"),
    ],
)
def test_a_step_that_only_looks_known_is_found_out(step, words):
    with pytest.raises(ModelError, match=words):
        from_torchvision(v1.Compose([v1.Resize(40), step]))


def test_the_result_is_plain_data():
    read = from_torchvision(CHAINS["v1"])
    assert read == ImagePreprocess(resize=70, crop=(64, 64), mean=tuple(MEAN), std=tuple(STD))


def test_values_kept_as_float32_tensors_stay_readable():
    chain = v1.Compose([v1.ToTensor(), v1.Normalize(torch.tensor(MEAN), torch.tensor(STD))])
    read = from_torchvision(chain)
    assert (list(read.mean), list(read.std)) == (MEAN, STD)
