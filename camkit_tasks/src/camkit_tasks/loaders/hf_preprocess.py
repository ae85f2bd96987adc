"""Preprocessing of transformers' image processors, with the way back to the photo.

The processor's settings are translated, and the translation is compared with the processor itself
on two test photos; nothing is believed that was not seen to give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from camkit_core import ModelError
from camkit_tasks.photos.preprocess import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocess
from camkit_tasks.photos.transforms import prove
from camkit_tasks.words import one_line

_PILLOW_CODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_WARPED_FROM = 384
"""ConvNext's processor crops below this size and squeezes the whole photo from it on."""

Notes = tuple[str, ...]


def preprocess_of(
    config: Any, folder: str | Path | None, *, local: bool
) -> tuple[ImagePreprocess, Notes]:
    """The processor saved with the weights, else the default one of the model's family.

    Args:
        config: the model's configuration.
        folder: folder or name of the weights; None for a network without.
        local: whether only files on disk may be read.

    Raises:
        ModelError: a processor whose geometry is not known.
    """
    processor = None if folder is None else _saved(folder, local=local)
    if processor is not None:
        return translated(processor), ()
    kind = _family_default(config)
    size = _image_size(config)
    try:
        preprocess = translated(kind()) if kind is not None else None
    except ModelError:
        preprocess = None
    if kind is None or preprocess is None:
        sides = size or (224, 224)
        note = f"preprocessing is ASSUMED: photos resized to {sides[0]}x{sides[1]}, ImageNet's mean"
        return ImagePreprocess(resize=sides, crop=None), (note,)
    notes: Notes = (f"preprocessing is ASSUMED to be the default of {kind.__name__}",)
    if size is not None and _final_size(preprocess) != size:
        changed = {"resize": size, "crop": None, "longest": None}
        preprocess = ImagePreprocess(**{**preprocess.model_dump(), **changed})
        notes = (*notes, f"photos are resized to the {size[0]}x{size[1]} pixels of the config")
    return preprocess, notes


def translated(processor: Any) -> ImagePreprocess:
    """An image processor as `ImagePreprocess`.

    Raises:
        ModelError: it does something whose geometry is not known, or other values came out.
    """
    try:
        read = [ImagePreprocess(**settings) for settings in _readings(_settings(processor))]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the image processor {type(processor).__name__} is not understood "
            f"({one_line(error)}): maps are put back on the photo, so every step must be known; "
            "build the model in your own code with a camkit_tasks.ImagePreprocess and pass "
            "file.py:factory"
        ) from error
    problems: list[ModelError] = []
    for preprocess in read:
        try:
            prove(preprocess, lambda photo: _run(processor, photo))
        except ModelError as error:
            problems.append(error)
        else:
            return preprocess
    raise problems[0]


def _run(processor: Any, photo: Any) -> Any:
    return processor(images=photo, return_tensors="pt")["pixel_values"][0]


def _readings(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plain reading of the settings, and what some processors make of the same ones."""
    yield settings
    yield {**settings, "resize_on": "float"}  # DINOv3 scales before it resizes
    if isinstance(settings["resize"], int) and settings["crop"]:
        yield {**settings, "resize": int(settings["resize"] * 256 / 224)}  # LeViT


def _saved(folder: str | Path, *, local: bool) -> Any | None:
    from transformers import AutoImageProcessor

    if Path(folder).is_dir():
        names = ("preprocessor_config.json", "processor_config.json")
        if not any(Path(folder, name).is_file() for name in names):
            return None
    try:
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=local, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"the image processor of {folder} cannot be loaded ({one_line(error)}); build the "
            "model in your own code with a camkit_tasks.ImagePreprocess and pass file.py:factory"
        ) from error


def _family_default(config: Any) -> Any | None:
    """Image processor class of a family, on torchvision as transformers itself prefers."""
    from transformers import IMAGE_PROCESSOR_MAPPING

    try:
        found = IMAGE_PROCESSOR_MAPPING[type(config)]
    except KeyError:
        return None
    if isinstance(found, Mapping):
        return found.get("torchvision") or found.get("pil")
    named = [kind for kind in found if kind is not None] if isinstance(found, tuple) else [found]
    return named[-1] if named else None


def _settings(processor: Any) -> dict[str, Any]:
    channels = len(getattr(processor, "image_mean", None) or IMAGENET_MEAN)
    return {
        **_resize(processor),
        **_values(processor, channels),
        "interpolation": _PILLOW_CODES[int(getattr(processor, "resample", None) or 0)],
        "gray": channels == 1,
        "bgr": bool(getattr(processor, "do_flip_channel_order", False)),
        "crop_rounding": "down",
        "resize_on": "photo" if getattr(processor, "backend", "pil") == "pil" else "bytes",
    }


def _resize(processor: Any) -> dict[str, Any]:
    crop = _sides(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    if not getattr(processor, "do_resize", False):
        return {"resize": None, "crop": crop}
    size = _given(processor.size)
    share = getattr(processor, "crop_pct", None)
    if share and set(size) == {"shortest_edge"}:
        return _by_share(size["shortest_edge"], share)
    if set(size) == {"height", "width"}:
        return {"resize": (size["height"], size["width"]), "crop": crop}
    if "shortest_edge" in size and set(size) <= {"shortest_edge", "longest_edge"}:
        longest = size.get("longest_edge")
        return {"resize": size["shortest_edge"], "longest": longest, "crop": crop}
    raise KeyError(f"size {size}")


def _by_share(side: int, share: float) -> dict[str, Any]:
    if side >= _WARPED_FROM:
        return {"resize": (side, side), "crop": None}
    return {"resize": int(side / share), "crop": (side, side)}


def _values(processor: Any, channels: int) -> dict[str, Any]:
    """Mean and std on [0, 1]: a processor may scale bytes by another factor than 1 / 255."""
    scaled = getattr(processor, "do_rescale", False)
    unit = 255 * (processor.rescale_factor if scaled else 1.0)
    mean, std = [0.0] * channels, [1.0] * channels
    if getattr(processor, "do_normalize", False):
        mean = list(processor.image_mean or IMAGENET_MEAN)
        std = list(processor.image_std or IMAGENET_STD)
    return {"mean": tuple(m / unit for m in mean), "std": tuple(s / unit for s in std)}


def _given(size: Any) -> dict[str, int]:
    """The sides that a processor's size names."""
    return {name: int(side) for name, side in dict(size).items() if side is not None}


def _sides(size: Any) -> tuple[int, int]:
    given = _given(size)
    return given["height"], given["width"]


def _image_size(config: Any) -> tuple[int, int] | None:
    """Height and width a configuration asks for."""
    for part in (config, getattr(config, "vision_config", None)):
        size = getattr(part, "image_size", None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def _final_size(preprocess: ImagePreprocess) -> tuple[int, int] | None:
    """Height and width of every input, if they do not depend on the photo."""
    if preprocess.crop is not None:
        return preprocess.crop
    return preprocess.resize if isinstance(preprocess.resize, tuple) else None
