"""Mosaics for the grid pointing game: one object per cell, all of different classes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from camkit_core import InputError
from camkit_playground.duo.classes import CLASS_NAMES
from camkit_playground.duo.drawing import Scene, checked_seed, present, scene, stream

if TYPE_CHECKING:
    from PIL.Image import Image

CELLS_KEY = "camkit_duo_cells"
"""Key of `PIL.Image.Image.info` that tells a mosaic from a large scene."""

_ORDER = 3

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """A square of single-object scenes and the truth about it."""

    image: NDArray[np.uint8]  # [cells * size, cells * size, 3]
    masks: NDArray[np.bool_]  # [8, H, W]: pixels of each class
    cells: NDArray[np.bool_]  # [8, H, W]: the cell of each class that is there
    labels: NDArray[np.bool_]  # [8]
    scenes: tuple[Scene, ...]  # row by row
    seed: int

    def photo(self) -> Image:
        """The picture as an RGB `PIL.Image.Image` that says how many cells it has."""
        from PIL import Image

        picture = Image.fromarray(self.image)
        picture.info[CELLS_KEY] = round(len(self.scenes) ** 0.5)
        return picture


def mosaic(seed: int, *, cells: int = 2, size: int = 64) -> Mosaic:
    """`cells` x `cells` test scenes with one object each, of pairwise different classes.

    Cell k, counted row by row, is `scene(seed * cells**2 + k, classes=[...], size=size)`.

    Raises:
        InputError: more cells than classes, or a size or seed out of range.
    """
    seed, count = checked_seed(seed), operator.index(cells) ** 2
    if not 1 <= count <= len(CLASS_NAMES) or cells < 1:
        raise InputError(
            f"a mosaic of {cells} x {cells} cells needs {count} classes, but Duo has "
            f"{len(CLASS_NAMES)}; expected 1 or 2 cells a side"
        )
    order = stream(seed, "test", _ORDER).permutation(len(CLASS_NAMES))[:count].tolist()
    parts = tuple(
        scene(seed * count + k, classes=[index], size=size) for k, index in enumerate(order)
    )
    owned = [np.broadcast_to(part.labels[:, None, None], part.masks.shape) for part in parts]
    masks = _tiled([part.masks for part in parts], cells)
    return Mosaic(
        image=_tiled([part.image.transpose(2, 0, 1) for part in parts], cells).transpose(1, 2, 0),
        masks=masks,
        cells=_tiled(owned, cells),
        labels=present(masks),
        scenes=parts,
        seed=seed,
    )


def _tiled(planes: list[NDArray[T]], cells: int) -> NDArray[T]:
    """`[C, H, W]` planes, row by row, as one `[C, cells * H, cells * W]`."""
    rows = [np.concatenate(planes[row * cells : (row + 1) * cells], axis=2) for row in range(cells)]
    return np.ascontiguousarray(np.concatenate(rows, axis=1))
