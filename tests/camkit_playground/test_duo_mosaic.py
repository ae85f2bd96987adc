"""Mosaics against the scenes they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camkit_core import InputError
from camkit_playground.duo import CLASS_NAMES, mosaic, scene

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)


@EXAMPLES
@given(seed=st.integers(0, 2**60), size=st.sampled_from([64, 96]))
def test_every_cell_is_the_scene_it_says(seed: int, size: int) -> None:
    drawn = mosaic(seed, size=size)
    assert drawn.image.shape == (2 * size, 2 * size, 3)
    assert drawn.labels.sum() == 4
    for k, part in enumerate(drawn.scenes):
        (index,) = np.flatnonzero(part.labels)
        name = CLASS_NAMES[index]
        alone = scene(4 * seed + k, classes=[name], size=size)
        here = np.s_[k // 2 * size : (k // 2 + 1) * size, k % 2 * size : (k % 2 + 1) * size]
        np.testing.assert_array_equal(drawn.image[here], alone.image)
        np.testing.assert_array_equal(drawn.masks[index][here], alone.masks[index])
        assert drawn.cells[index][here].all()
        assert drawn.cells[index].sum() == size * size


@EXAMPLES
@given(seed=st.integers(0, 2**60))
def test_masks_lie_in_their_cells_and_cells_tile_the_picture(seed: int) -> None:
    drawn = mosaic(seed)
    assert not (drawn.masks & ~drawn.cells).any()
    assert (drawn.cells.sum(0) == 1).all()
    np.testing.assert_array_equal(drawn.labels, drawn.masks.any((1, 2)))
    np.testing.assert_array_equal(drawn.labels, drawn.cells.any((1, 2)))


def test_a_mosaic_of_one_cell_is_a_scene() -> None:
    drawn = mosaic(5, cells=1)
    np.testing.assert_array_equal(drawn.image, drawn.scenes[0].image)


@pytest.mark.parametrize("cells", [0, -2, 3])
def test_more_cells_than_classes_are_refused(cells: int) -> None:
    with pytest.raises(InputError, match=r"Duo has 8; expected 1 or 2 cells"):
        mosaic(0, cells=cells)
