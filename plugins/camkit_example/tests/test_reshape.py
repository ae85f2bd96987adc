"""camkit's own checks on the reshape, and where each number goes."""

from __future__ import annotations

import pytest
import torch

from camkit_core import LayoutError
from camkit_core.testing import parametrize_checks
from camkit_example.reshape import Flat


@parametrize_checks([Flat()])
def test_conforms(check) -> None:
    check()


def test_there_and_back() -> None:
    layer = torch.arange(30.0).reshape(1, 2, 15)
    picture = Flat("3x5").to_spatial(layer)
    assert picture[0, 1, 2, 3] == layer[0, 1, 2 * 5 + 3]
    assert torch.equal(Flat("3x5").from_spatial(picture, layer), layer)


def test_another_grid_is_refused() -> None:
    with pytest.raises(LayoutError, match="15 positions do not form a 4x4 grid"):
        Flat("4x4").to_spatial(torch.zeros(1, 2, 15))
