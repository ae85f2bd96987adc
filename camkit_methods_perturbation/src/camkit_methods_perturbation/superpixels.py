"""Superpixels, and images shown through some of them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from camkit_core import CapabilityError, InputError
from camkit_methods_perturbation.parts import blur
from camkit_methods_perturbation.rows import Build, masked

Fill = Literal["mean", "zero", "blur"]


def segments(images: Tensor, count: int, compactness: float) -> Tensor:
    """SLIC superpixel of each pixel, 0 upwards, each image on its own, `[N, *S]`.

    Raises:
        CapabilityError: scikit-image is not installed.
        InputError: more than three spatial axes.
    """
    if images.ndim > 5:
        raise InputError(
            f"superpixels need 1 to 3 spatial axes, the image has {images.ndim - 2}; choose rise"
        )
    return torch.stack([_slic(image, count, compactness) for image in images])


def _slic(image: Tensor, count: int, compactness: float) -> Tensor:
    """Superpixels of one image `[C, *S]`."""
    pixels = image.detach().cpu().double()
    low, high = pixels.min(), pixels.max()
    pixels = (pixels - low) / (high - low).clamp_min(torch.finfo(pixels.dtype).tiny)
    lines = pixels[:, None] if pixels.ndim == 2 else pixels
    found = _skimage_slic()(
        lines.movedim(0, -1).numpy(),
        n_segments=count,
        compactness=compactness,
        start_label=0,
        channel_axis=-1,
        convert2lab=len(image) == 3,
    )
    labels: Tensor = torch.as_tensor(found).reshape(image.shape[1:]).unique(return_inverse=True)[1]
    return labels.to(image.device)


def _skimage_slic() -> Any:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise CapabilityError(
            "superpixels need scikit-image, which is not installed; "
            "pip install 'camkit-methods-perturbation[superpixels]', or use rise or occlusion"
        ) from error
    return slic


def filled(images: Tensor, labels: Tensor, fill: Fill) -> Tensor:
    """What hidden superpixels show, `[N, C, *S]`: their mean, zero, or the blurred image."""
    if fill == "blur":
        return blur(images)
    if fill == "zero":
        return torch.zeros_like(images)
    flat, place = images.flatten(2), labels.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    shape = (*flat.shape[:2], int(labels.max()) + 1)
    size = torch.zeros(shape).to(flat).scatter_add(2, place, torch.ones_like(flat))
    total = torch.zeros(shape).to(flat).scatter_add(2, place, flat)
    return (total / size.clamp_min(1)).gather(2, place).reshape(images.shape)


def shown(images: Tensor, labels: Tensor, choices: list[Tensor], fill: Fill) -> Build:
    """Images with the superpixels that a row chooses, the rest hidden.

    Shapes: labels `[N, *S]`; choices, for each image, `[rows, its superpixels]` of 0 and 1.
    """
    places = labels.flatten(1)

    def masks(owner: Tensor, change: Tensor) -> Tensor:
        chosen = [
            choices[image][row][places[image]]
            for image, row in zip(owner.tolist(), change.tolist(), strict=True)
        ]
        return torch.stack(chosen).reshape(len(owner), *labels.shape[1:])

    return masked(images, masks, filled(images, labels, fill))


def painted(values: list[Tensor], labels: Tensor) -> Tensor:
    """The value of each pixel's superpixel, `[N, *S]`."""
    return torch.stack([value[image] for value, image in zip(values, labels, strict=True)])
