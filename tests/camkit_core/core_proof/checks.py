"""Assertions that refuse to compare nothing with nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def telling(maps: Tensor) -> Tensor:
    """The maps, after making sure that every one of them varies."""
    assert maps.numel(), "there is nothing to compare"
    flat = maps.detach().double().flatten(1)
    spread, top = flat.std(1), flat.abs().amax(1)
    assert bool((spread > 1e-3 * top).all()), f"degenerate maps: spread {spread}, top {top}"
    assert bool((top > 1e-9).all()), f"vanishing maps: {top}"
    return maps


def close(found: Tensor, wanted: Tensor, relative: float = 1e-11) -> None:
    """Equal up to rounding, relative to the largest value; never on degenerate tensors."""
    assert found.shape == wanted.shape, f"{list(found.shape)} is not {list(wanted.shape)}"
    telling(wanted)
    scale = wanted.abs().max().item()
    worst = (found.double() - wanted.double()).abs().max().item()
    assert worst <= relative * scale, f"differs by {worst / scale:.3g} of the largest value"


def same(found: Tensor, wanted: Tensor) -> None:
    """Bit for bit."""
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted), f"largest difference {(found - wanted).abs().max()}"


@contextmanager
def or_refused(error: type[Exception], *words: str) -> Iterator[None]:
    """The block holds, or it stops with this error and all of these words in it."""
    try:
        yield
    except error as refusal:
        missing = [word for word in words if word not in str(refusal)]
        if missing:
            raise AssertionError(f"{missing} missing in: {refusal}") from refusal
