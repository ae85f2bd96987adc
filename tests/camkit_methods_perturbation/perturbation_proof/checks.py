"""Explanations of one layer, and comparisons that cannot pass on empty or constant maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camkit_core import Capture, default_registry, explain


def method_class(name: str) -> Any:
    """The class behind a method's name."""
    return default_registry().resolve("method", name)


def raw(
    net: nn.Module, x: Tensor, spec: Any, target: Any = 1, layer: Any = "features", **words: Any
) -> Tensor:
    """The one raw map of an explanation, `[N, *S]`."""
    (found,) = explain(net, x, method=spec, target=target, layers=layer, **words).raw.values()
    return found


class Look:
    """A method that hands its capture to a function and remembers the answer."""

    name = "look"

    def __init__(self, needs: Any, look: Callable[[Capture], Any]) -> None:
        self.needs, self._look, self.seen = needs, look, None

    def __call__(self, capture: Capture) -> Tensor:
        self.seen = self._look(capture)
        return capture.inputs[:, 0]


def weights(
    net: nn.Module, x: Tensor, method: Any, target: Any = 1, layer: str = "features", **words: Any
) -> Tensor:
    """Channel weights `[N, K]` of a method that has them."""
    look = Look(method.needs, method.weights)
    explain(net, x, method=look, target=target, layers=layer, **words)
    return look.seen


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Rows asked of the engine inside the block, by kind."""
    rows = {"scores": 0, "tail": 0}
    with pytest.MonkeyPatch.context() as patch:
        for kind in rows:
            plain = getattr(Capture, kind)

            def count(
                self: Capture, asked: Any, *, kind: str = kind, plain: Any = plain, **words: Any
            ) -> Tensor:
                rows[kind] += len(asked)
                return plain(self, asked, **words)

            patch.setattr(Capture, kind, count)
        yield rows


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
    """Equal maps (or weights), both of them live."""
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
