"""Options are checked before anything is drawn."""

from __future__ import annotations

import pytest
import torch

from camkit_core import OptionError
from camkit_render import Overlay


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alhpa": 0.2}, r"no option 'alhpa'; did you mean 'alpha'"),
        ({"alpha": 1.5}, "from 0 to 1, got 1.5"),
        ({"alpha": float("nan")}, "from 0 to 1"),
        ({"alpha": True}, "from 0 to 1"),
        ({"alpha": "0.5"}, "from 0 to 1"),
        ({"scale": "sharde"}, r"got 'sharde'; did you mean 'shared'"),
        ({"colormap": "infrno"}, r"'infrno'; did you mean 'inferno'"),
        ({"colormap": 3}, "named by a string"),
        ({"size": 3}, "size is a whole number of at least 16"),
        ({"columns": 0}, "columns is a whole number"),
        ({"slices": None}, "slices is a whole number"),
        ({"outline": 1}, "outline is True or False"),
    ],
)
def test_wrong_options_get_one_clear_line(make, options, words):
    with pytest.raises(OptionError, match=words) as caught:
        Overlay()([make(torch.rand(1, 4, 4))], **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [([], "no image to draw"), ([torch.rand(3)], "draws explanations, got Tensor")],
)
def test_nothing_to_draw_is_an_error(given, words):
    with pytest.raises(OptionError, match=words):
        Overlay()(given)
