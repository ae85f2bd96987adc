"""Reads an `ImagePreprocess` out of torchvision transforms, and proves that it is the same.

The way from the input back to the photo must be known, so only steps with a known geometry are
understood. Whatever was read is replayed on two test photos and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from camkit_core import ModelError
from camkit_tasks.photos.preprocess import Form, ImagePreprocess
from camkit_tasks.words import one_line

UNDERSTOOD = (
    "RGB or Grayscale, Resize, CenterCrop, ToTensor / PILToTensor / ToImage, "
    "ConvertImageDtype / ToDtype(float32, scale=True), Normalize, in that order "
    "(Resize and CenterCrop also after the conversion to a tensor)"
)

_PILLOW_CODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def is_torchvision(transform: Any) -> bool:
    """Whether this is a transform of torchvision, or a chain of them."""
    if isinstance(transform, nn.Sequential):
        return True
    return any(
        base.__module__.startswith("torchvision.transforms") for base in type(transform).__mro__
    )


def from_torchvision(transform: Any) -> ImagePreprocess:
    """The same preprocessing as an `ImagePreprocess`.

    Raises:
        ModelError: a step is not understood, or the replay differs.
    """
    reader = _Reader()
    for step in _flat(transform):
        reader.read(step)
    preprocess = reader.result()
    prove(preprocess, transform)
    return preprocess


def prove(preprocess: ImagePreprocess, transform: Callable[[Any], Any]) -> None:
    """Compare with what `transform` makes of two test photos, a wide and a tall one.

    Raises:
        ModelError: other sizes or values.
    """
    for photo in _test_photos():
        _compare(preprocess, transform, photo)


class _Reader:
    """Walks through the steps and collects settings; `form` is what the photo is by now."""

    def __init__(self) -> None:
        self.form: Form = "photo"
        self.settings: dict[str, Any] = {"resize": None, "crop": None}

    def read(self, step: Any) -> None:
        """Take in one step, or refuse it."""
        if "mean" in self.settings:
            _refuse(step, "it comes after Normalize, which must be the last step")
        for base in type(step).__mro__:
            known = _STEPS.get(base.__name__)
            if known and base.__module__.startswith("torchvision.transforms"):
                known(self, step)
                return
        _refuse(step, "it is not one of the steps whose geometry is known")

    def result(self) -> ImagePreprocess:
        """All settings; without Normalize the values stay in [0, 1]."""
        if self.form != "float":
            raise ModelError(
                f"preprocessing ends with a {self.form}, not with a float tensor in [0, 1]; "
                f"add ToTensor() (understood steps: {UNDERSTOOD})"
            )
        channels = 1 if self.settings.get("gray") else 3
        normal = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
        try:
            return ImagePreprocess(**{**normal, **self.settings})
        except ValidationError as error:
            raise ModelError(f"preprocessing cannot be used: {one_line(error)}") from error


def _resize(reader: _Reader, step: Any) -> None:
    if reader.settings["resize"] is not None or reader.settings["crop"] is not None:
        _refuse(step, "only one Resize is understood, before CenterCrop")
    if getattr(step, "max_size", None) is not None:
        _refuse(step, "Resize(max_size=...) is not understood")
    _set_resize(reader, step.size, step.interpolation, step.antialias)


def _set_resize(reader: _Reader, size: Any, interpolation: Any, antialias: Any) -> None:
    sizes = [size] if isinstance(size, int) else list(size)
    mode = getattr(interpolation, "value", interpolation)
    reader.settings |= {
        "resize": sizes[0] if len(sizes) == 1 else tuple(sizes),
        "interpolation": _PILLOW_CODES.get(mode, mode),
        "resize_on": reader.form,
        "antialias": bool(antialias),
    }


def _crop(reader: _Reader, step: Any) -> None:
    if reader.settings["crop"] is not None:
        _refuse(step, "only one CenterCrop is understood")
    _set_crop(reader, step.size)


def _set_crop(reader: _Reader, size: Any) -> None:
    sizes = [size] if isinstance(size, int) else list(size)
    reader.settings["crop"] = (sizes[0], sizes[-1])


def _gray(reader: _Reader, step: Any) -> None:
    untouched = reader.form == "photo" and reader.settings == {"resize": None, "crop": None}
    if step.num_output_channels != 1 or not untouched:
        _refuse(step, "only Grayscale(1) as the first step is understood")
    reader.settings["gray"] = True


def _to_float(reader: _Reader, step: Any) -> None:
    if reader.form != "photo":
        _refuse(step, f"it expects a photo, but gets {reader.form}")
    reader.form = "float"


def _to_bytes(reader: _Reader, step: Any) -> None:
    if reader.form == "photo":
        reader.form = "bytes"


def _to_dtype(reader: _Reader, step: Any) -> None:
    scaled = getattr(step, "scale", True) or reader.form == "float"
    if step.dtype is not torch.float32 or not scaled:
        _refuse(step, "only float32 in [0, 1] (scale=True) is understood")
    if reader.form == "photo":
        _refuse(step, "it does nothing to a photo; put ToImage() before it")
    reader.form = "float"


def _normalize(reader: _Reader, step: Any) -> None:
    if reader.form != "float":
        _refuse(step, f"it expects a float tensor, but gets {reader.form}")
    _set_normal(reader, step.mean, step.std)


def _set_normal(reader: _Reader, mean: Any, std: Any) -> None:
    channels = 1 if reader.settings.get("gray") else 3
    for name, values in (("mean", mean), ("std", std)):
        numbers = [_shortest(value) for value in torch.as_tensor(values).flatten().tolist()]
        reader.settings[name] = tuple(numbers * channels if len(numbers) == 1 else numbers)


def _shortest(value: float) -> float:
    """The shortest decimal with the same float32: 0.485, not 0.48500001430511475."""
    exact = torch.tensor(value, dtype=torch.float32)
    texts = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((t for t in texts if torch.tensor(t, dtype=torch.float32) == exact), value)


def _preset(reader: _Reader, step: Any) -> None:
    if reader.form != "photo" or reader.settings["resize"] or reader.settings["crop"]:
        _refuse(step, "it resizes, crops and normalises itself, other such steps do not go with it")
    _set_resize(reader, step.resize_size, step.interpolation, step.antialias)
    _set_crop(reader, step.crop_size)
    reader.form = "float"
    _set_normal(reader, step.mean, step.std)


def _nothing(reader: _Reader, step: Any) -> None:
    """Photos are RGB already, and tensor wrappers change no value."""


_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "Resize": _resize,
    "CenterCrop": _crop,
    "Grayscale": _gray,
    "RGB": _nothing,
    "ToPureTensor": _nothing,
    "Identity": _nothing,
    "ToTensor": _to_float,
    "PILToTensor": _to_bytes,
    "ToImage": _to_bytes,
    "ConvertImageDtype": _to_dtype,
    "ToDtype": _to_dtype,
    "Normalize": _normalize,
    "ImageClassification": _preset,
}


def _flat(transform: Any) -> Iterator[Any]:
    """Single steps of nested chains."""
    if isinstance(transform, nn.Identity):
        return
    if isinstance(transform, nn.Sequential):
        inner: Iterable[Any] = list(transform)
    elif type(transform).__name__ == "Compose":
        inner = transform.transforms
    else:
        yield transform
        return
    for step in inner:
        yield from _flat(step)


def _refuse(step: Any, why: str) -> NoReturn:
    raise ModelError(
        f"preprocessing step {' '.join(repr(step).split())} is not understood: {why}. Maps are put "
        f"back on the photo, so every step must be known: {UNDERSTOOD}; or give a "
        "camkit_tasks.ImagePreprocess"
    )


def _test_photos() -> Iterator[Image.Image]:
    """One wide and one tall photo with detail at every scale."""
    for width, height in ((331, 247), (151, 223)):
        y = torch.arange(height)[:, None, None]
        x = torch.arange(width)[None, :, None]
        channel = torch.arange(3)
        values = (x * (37 + channel) + y * (91 - channel) + x * y // 7) % 256
        data = bytes(values.to(torch.uint8).flatten().tolist())
        yield Image.frombytes("RGB", (width, height), data)


def _compare(
    preprocess: ImagePreprocess, transform: Callable[[Any], Any], photo: Image.Image
) -> None:
    ours = preprocess(photo).inputs[0]
    try:
        theirs = transform(photo)
    except Exception as error:
        raise ModelError(f"preprocessing fails on a plain RGB photo: {one_line(error)}") from error
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
        shape = list(theirs.shape) if isinstance(theirs, Tensor) else type(theirs).__name__
        raise ModelError(
            f"preprocessing gives {shape} where its steps, read as {preprocess!r}, give "
            f"{list(ours.shape)}; give a camkit_tasks.ImagePreprocess instead"
        )
    difference = (ours - theirs.as_subclass(Tensor)).abs().max().item()
    if not difference <= 2e-6 / min(preprocess.std):
        raise ModelError(
            f"preprocessing was read as {preprocess!r}, but gives other values on a test photo "
            f"(by {difference:.3g}); give a camkit_tasks.ImagePreprocess instead"
        )
