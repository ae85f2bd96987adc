"""Preprocessing of a network that came without: declared by it, or assumed and said so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from camkit_core import ModelError
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.words import one_line

_GRAY_NOTE = "one gray channel, mean 0.5, std 0.5"
_DEFAULT_SIZE, _DEFAULT_SHARE = 224, 224 / 256


def assume_preprocess(model: nn.Module) -> tuple[ImagePreprocess, tuple[str, ...]]:
    """Preprocessing, and a note that says where it comes from.

    Raises:
        ModelError: the first convolution cannot take a photo.
    """
    channels = _photo_channels(model)
    config = getattr(model, "pretrained_cfg", None)
    if isinstance(config, Mapping) and config.get("input_size", (0,))[0] == channels:
        return timm_preprocess(config), ("preprocessing: as in the network's pretrained_cfg",)
    size = getattr(model, "image_size", _DEFAULT_SIZE)
    size = size if isinstance(size, int) else _DEFAULT_SIZE
    resize = math.floor(size / _DEFAULT_SHARE)
    if channels == 1:
        preprocess = ImagePreprocess(
            resize=resize, crop=(size, size), gray=True, mean=(0.5,), std=(0.5,)
        )
    else:
        preprocess = ImagePreprocess(resize=resize, crop=(size, size))
    values = _GRAY_NOTE if channels == 1 else "RGB with ImageNet's mean and std"
    note = (
        f"preprocessing is ASSUMED: short side {resize}, centre crop {size}x{size}, {values}; "
        "let the factory return (model, preprocess) if that is wrong"
    )
    return preprocess, (note,)


def _photo_channels(model: nn.Module) -> int:
    """Channels the first convolution takes; 3 if there is none."""
    for module in model.modules():
        if not isinstance(module, nn.modules.conv._ConvNd):
            continue
        if not isinstance(module, nn.Conv2d) or module.in_channels not in (1, 3):
            raise ModelError(
                f"{type(model).__name__} came without preprocessing, and its first convolution, "
                f"{module}, takes neither an RGB nor a gray photo; let the factory return "
                "(model, preprocess)"
            )
        return module.in_channels
    return 3


def timm_preprocess(config: Mapping[str, Any]) -> ImagePreprocess:
    """Evaluation preprocessing of timm for a `pretrained_cfg` or a resolved data config.

    Raises:
        ModelError: a crop or interpolation whose geometry is not known.
    """
    channels, height, width = config["input_size"]
    share = config.get("crop_pct") or _DEFAULT_SHARE
    squashed = config.get("crop_mode") == "squash"
    larger = (math.floor(height / share), math.floor(width / share))
    try:
        if not squashed and (height != width or config.get("crop_mode", "center") != "center"):
            raise TypeError("neither a square centre crop nor squashed")
        return ImagePreprocess(
            resize=larger if squashed else larger[0],
            crop=(height, width),
            interpolation=config.get("interpolation") or "bilinear",
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            gray=channels == 1,
        )
    except (ValidationError, KeyError, TypeError) as error:
        raise ModelError(
            f"the network's pretrained_cfg cannot be used as preprocessing ({one_line(error)}): "
            f"{dict(config)}; let the factory return (model, preprocess)"
        ) from error
