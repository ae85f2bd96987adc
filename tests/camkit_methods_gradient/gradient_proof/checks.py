"""Comparisons that cannot pass on empty or constant maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from camkit_core import default_registry, explain


def method_class(name: str) -> Any:
    """The class behind a method's name."""
    return default_registry().resolve("method", name)


def raw(
    net: nn.Module, x: Tensor, spec: str, target: Any = 1, layer: str = "features", **words: Any
) -> Tensor:
    """The one raw map of an explanation, `[N, *S]`."""
    (found,) = explain(net, x, method=spec, target=target, layers=layer, **words).raw.values()
    return found


def as_double(maps: Any) -> Tensor:
    """Float64 tensor of a tensor or array."""
    if isinstance(maps, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(maps)).double()
    return maps.detach().double()


def assert_live(maps: Any) -> None:
    """Finite, and in each image neither empty nor constant."""
    for index, one in enumerate(as_double(maps).flatten(1)):
        assert torch.isfinite(one).all(), f"image {index}: not finite"
        assert one.abs().max() > 0, f"image {index}: empty map, the comparison would prove nothing"
        assert one.std() > 1e-3 * one.abs().max(), f"image {index}: constant map"


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference in any image, relative to that image's largest value in `theirs`."""
    ours, theirs = as_double(ours), as_double(theirs)
    assert ours.shape == theirs.shape, f"{list(ours.shape)} against {list(theirs.shape)}"
    scale = theirs.flatten(1).abs().amax(1)
    return float(((ours - theirs).flatten(1).abs().amax(1) / scale).max())


def assert_equal(ours: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    """Equal maps, both of them live."""
    assert_live(ours)
    assert_live(theirs)
    off = distance(ours, theirs)
    assert off <= tolerance, f"maps differ by {off:.3g} of the largest value"


def assert_different(ours: Any, theirs: Any, margin: float = 1e-3) -> None:
    """Clearly different maps, both of them live."""
    assert_live(ours)
    assert_live(theirs)
    off = distance(ours, theirs)
    assert off > margin, f"maps differ by {off:.3g} only, {margin} was expected at least"


def normalised(maps: Tensor) -> Tensor:
    """Each image divided by its largest absolute value."""
    return maps / maps.flatten(1).abs().amax(1).reshape(-1, *(1,) * (maps.ndim - 1))
