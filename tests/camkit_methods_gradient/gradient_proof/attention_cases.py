"""What the tests of the attention methods share: networks by how they read, and their maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from camkit_core import explain
from gradient_proof.checks import as_double
from gradient_proof.networks import Array
from gradient_proof.transformer import GRID, Part, Tokens, Transformer, parts, pictures

TARGET = 1
READS = pytest.mark.parametrize(
    ("pool", "prefix"), [("class", 1), ("class", 3), ("mean", 0), ("mean", 2)]
)
"""Class token; class token and registers; average of patches, with and without registers."""


def network(pool: str, prefix: int) -> tuple[Transformer, list[int]]:
    """A network, and the tokens its score reads."""
    rows = [0] if pool == "class" else list(range(prefix, prefix + GRID[0] * GRID[1]))
    return Transformer(prefix=prefix, pool=pool, seed=2), rows


def found(net: Transformer, spec: str, x: Tensor | None = None, target: Any = TARGET) -> Tensor:
    """The raw map `[N, *GRID]` of a method."""
    x = pictures() if x is None else x
    result = explain(net, x, spec, target, reshape=Tokens(net.prefix))
    (raw,) = result.raw.values()
    assert raw.shape == (len(x), *GRID)
    return as_double(raw)


def wanted(
    net: Transformer, reference: Callable[[list[Part], int], Array], blocks: slice = slice(None)
) -> Array:
    """The reference of every image, without prefix tokens, on the grid."""
    x = pictures()
    used = parts(net, x, TARGET)[blocks]
    cells = GRID[0] * GRID[1]
    maps = [reference(used, row)[-cells:].reshape(GRID) for row in range(len(x))]
    return np.stack(maps)
