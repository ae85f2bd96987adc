"""Comparisons that cannot pass on empty, constant or non-finite maps, and that show the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from camkit_core.testing.report import ConformanceError

EXACT = 1e-9
"""Largest difference of float64 maps that count as equal, in units of the map's largest value."""

CLEAR = 1e-3
"""Smallest difference of maps that count as different, in the same unit."""


def fail(message: str) -> None:
    """Stop with a message.

    Raises:
        ConformanceError: always.
    """
    raise ConformanceError(message)


def ensure(holds: bool, message: str) -> None:
    """Stop unless something holds."""
    if not holds:
        raise ConformanceError(message)


def live(maps: Tensor, what: str = "the map") -> None:
    """Every image's map is finite, neither empty nor constant: else no comparison proves much."""
    for image, one in enumerate(maps.detach().double().flatten(1)):
        top = one.abs().max().item() if one.numel() else 0.0
        spread = one.std(correction=0).item() if one.numel() else 0.0
        ensure(bool(torch.isfinite(one).all()), f"{what} of image {image} has NaN or infinity")
        ensure(top > 0, f"{what} of image {image} is zero everywhere on a network made to show one")
        ensure(
            spread > CLEAR * top,
            f"{what} of image {image} is constant (deviation {spread:.3g}, largest {top:.3g}) on a "
            "network made to show a pattern",
        )


def distance(found: Tensor, wanted: Tensor) -> float:
    """Largest difference in any image, in units of that image's largest wanted value."""
    if found.shape != wanted.shape:
        fail(f"the map is {list(found.shape)}, expected {list(wanted.shape)}")
    found, wanted = found.detach().double(), wanted.detach().double()
    scale = wanted.flatten(1).abs().amax(1)
    tiny = torch.finfo(torch.float64).tiny
    return float(((found - wanted).flatten(1).abs().amax(1) / scale.clamp_min(tiny)).max())


def equal(found: Tensor, wanted: Tensor, what: str, tolerance: float = EXACT) -> None:
    """Live maps that agree.

    Args:
        what: what was done and what is probably wrong if the maps differ.
    """
    live(wanted)
    off = distance(found, wanted)
    if not off <= tolerance:
        fail(f"{what}: maps differ by {off:.3g} of the largest value, allowed {tolerance:.0e}")


def different(found: Tensor, wanted: Tensor, what: str, margin: float = CLEAR) -> None:
    """Live maps that clearly disagree."""
    live(wanted)
    off = distance(found, wanted)
    if not off > margin:
        fail(f"{what}: maps differ by {off:.3g} of the largest value only, expected over {margin}")


def bits(found: Tensor, wanted: Tensor, what: str) -> None:
    """Equal in every bit."""
    same = found.dtype == wanted.dtype and torch.equal(found, wanted)
    if not same:
        alike = found.shape == wanted.shape
        off = f" by {distance(found, wanted):.3g} of the largest value" if alike else ""
        fail(f"{what}: the maps differ{off}, and must be equal bit for bit")


def unit(maps: Tensor) -> Tensor:
    """Each image divided by its largest absolute value."""
    top = maps.flatten(1).abs().amax(1).reshape(-1, *(1,) * (maps.ndim - 1))
    return maps / top.clamp_min(torch.finfo(maps.dtype).tiny)


def ranks(values: Tensor) -> Tensor:
    """Ranks of a vector, ties in order of position."""
    order = values.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places.double()


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two maps."""
    a, b = ranks(one.flatten()), ranks(other.flatten())
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()))


@contextmanager
def refused(error: type[Exception], words: tuple[str, ...], what: str) -> Iterator[None]:
    """The block stops with this error, and its text has all of these words."""
    try:
        yield
    except error as raised:
        missing = [word for word in words if word not in str(raised)]
        ensure(not missing, f"{what}: the {error.__name__} lacks {missing}: {raised}")
    except Exception as raised:
        fail(f"{what}: expected {error.__name__}, got {type(raised).__name__}: {raised}")
    else:
        fail(f"{what}: expected {error.__name__}, but nothing was raised")
