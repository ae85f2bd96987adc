"""The few operations the methods are made of. Shapes: A, G `[N, K, *S]`; weights `[N, K]`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import InputError
from camkit_methods_perturbation.rows import Build

MaskOrder = Literal["paper", "grad-cam", "torchcam"]
Normalize = Literal["softmax", "relu", "none"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def positions(maps: Tensor) -> tuple[int, ...]:
    """The spatial axes of `[N, K, *S]`."""
    return tuple(range(2, maps.ndim))


def spread(weights: Tensor, like: Tensor) -> Tensor:
    """`[N, K]` with as many trailing axes as `like` has positions."""
    return weights.reshape(*weights.shape, *(1,) * (like.ndim - 2))


def weighted_sum(weights: Tensor, maps: Tensor) -> Tensor:
    """sum_k w_k A_k, `[N, *S]`."""
    # Not einsum: matrix products may run in reduced precision on GPUs.
    return (spread(weights, maps) * maps).sum(1)


def spatial_mean(maps: Tensor) -> Tensor:
    """Mean over positions, `[N, K]`."""
    return maps.mean(positions(maps))


def resize(maps: Tensor, size: tuple[int, ...], *, corners: bool = False) -> Tensor:
    """Linear interpolation of `[N, K, *S]` to `[N, K, *size]`, one to three spatial axes.

    Raises:
        InputError: more spatial axes than that.
    """
    if maps.shape[2:] == size:
        return maps
    if len(size) not in _MODES:
        raise InputError(
            f"masks of {len(size)} spatial axes cannot be resized (1 to 3 can); reshape the input"
        )
    return functional.interpolate(maps, size, mode=_MODES[len(size)], align_corners=corners)


def unit(maps: Tensor, lead: int = 1) -> Tensor:
    """Each map to [0, 1] over all but the first `lead` axes; 0 where a map is constant."""
    axes = tuple(range(lead, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    span = high - low
    # What is left of a constant map is rounding, not a mask.
    noise = 64 * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    return torch.where(span <= noise, 0.0, (maps - low) / span.where(span > 0, 1.0))


def mask_builder(maps: Tensor, size: tuple[int, ...], order: MaskOrder = "paper") -> Build:
    """Masks `[m, *size]` of single maps out of `[N, K, *S]`, made when asked for.

    paper: resize, then each to [0, 1]. grad-cam: the same with aligned corners and that library's
    1e-8. torchcam: to [0, 1] at the layer's resolution with its 1e-8, then resize.
    """

    def build(owner: Tensor, change: Tensor) -> Tensor:
        chosen = maps[owner, change][:, None]
        if order == "torchcam":
            return resize(_with_epsilon(chosen), size)[:, 0]
        resized = resize(chosen, size, corners=order == "grad-cam")
        return (unit(resized) if order == "paper" else _with_epsilon(resized))[:, 0]

    return build


def _with_epsilon(maps: Tensor) -> Tensor:
    """Each map to [0, 1) with 1e-8 in the denominator, as the libraries have it."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def normalized(increase: Tensor, how: Normalize) -> Tensor:
    """Scores `[N, K]` as channel weights."""
    if how == "softmax":
        return increase.softmax(1)
    return increase.relu() if how == "relu" else increase


def blur(images: Tensor, side: int = 51, sigma: float = 50.0) -> Tensor:
    """Gaussian blur of `[N, C, *S]` by a window of `side` pixels, borders mirrored."""
    for axis in range(2, images.ndim):
        weights = _blur_matrix(images.shape[axis], side, sigma).to(images)
        images = (images.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return images


def _blur_matrix(length: int, side: int, sigma: float) -> Tensor:
    """`[length, length]`: row i blurs around i; the border pixel itself is not repeated."""
    offsets = torch.arange(side) - side // 2
    kernel = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    period = max(2 * (length - 1), 1)
    folded = (torch.arange(length)[:, None] + offsets).remainder(period)
    source = torch.minimum(folded, period - folded) if length > 1 else folded.clamp_max(0)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, source, kernel.expand(length, -1))


def drawn_seed(generator: torch.Generator) -> int:
    """A number drawn from the call's generator, for what is drawn again for every image."""
    drawn = torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device)
    return int(drawn)
