"""The few operations the methods are made of. Shapes: A, G `[N, C, *S]`; weights `[N, C]`."""

from __future__ import annotations

import torch
from torch import Tensor


def positions(maps: Tensor) -> tuple[int, ...]:
    """The spatial axes of `[N, C, *S]`."""
    return tuple(range(2, maps.ndim))


def spatial_sum(maps: Tensor) -> Tensor:
    """Sum over positions, `[N, C]`."""
    return maps.sum(positions(maps))


def spatial_mean(maps: Tensor) -> Tensor:
    """Mean over positions, `[N, C]`."""
    return maps.mean(positions(maps))


def spread(weights: Tensor, like: Tensor) -> Tensor:
    """`[N, C]` with as many trailing axes as `like` has positions."""
    return weights.reshape(*weights.shape, *(1,) * (like.ndim - 2))


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_k w_k A_k, `[N, *S]`."""
    # Not einsum: matrix products may run in reduced precision on GPUs.
    return (spread(weights, activations) * activations).sum(1)


def first_component(maps: Tensor, *, center: bool) -> Tensor:
    """Projection of every position on the first right-singular vector, `[N, *S]`, sign arbitrary.

    The matrix is positions x channels, per image. Its smaller Gram matrix gives the same vector
    as the singular value decomposition at a fraction of the cost.
    """
    wide = centered(maps) if center else rows(maps)
    if wide.shape[1] <= wide.shape[2]:
        values, vectors = torch.linalg.eigh(wide @ wide.transpose(1, 2))
        projection: Tensor = vectors[..., -1] * values[..., -1:].clamp_min(0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(wide.transpose(1, 2) @ wide)
        projection = (wide @ vectors[..., -1:])[..., 0]
    return projection.to(maps).reshape(len(maps), *maps.shape[2:])


def rows(maps: Tensor) -> Tensor:
    """Positions x channels `[N, P, C]` in float64, on the CPU where the device has no float64."""
    flat = maps.flatten(2).transpose(1, 2)
    return flat.cpu().double() if maps.device.type == "mps" else flat.double()


def centered(maps: Tensor) -> Tensor:
    """Positions x channels `[N, P, C]` without the mean position, in float64.

    What remains of constant activations is rounding; it becomes zero instead of a component.
    """
    wide = rows(maps)
    rest = wide - wide.mean(1, keepdim=True)
    noise = 64 * torch.finfo(maps.dtype).eps * wide.abs().amax((1, 2), keepdim=True)
    return torch.where(rest.abs().amax((1, 2), keepdim=True) <= noise, 0.0, rest)


def align(projection: Tensor, reference: Tensor) -> Tensor:
    """The projection with the sign that agrees with `reference`, both `[N, *S]`: <p, r> >= 0.

    A principal component has no sign of its own; without this rule the picture may be inverted.
    Of a centered component, this is the sign of the correlation.
    """
    axes = tuple(range(1, projection.ndim))
    agreement = (projection * reference).sum(axes, keepdim=True)
    return torch.where(agreement < 0, -projection, projection)
