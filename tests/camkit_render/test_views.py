"""Without a photo the input tensor is shown, stretched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camkit_core import InputError
from camkit_render import Overlay
from camkit_render.views import fit, resized, stretched


def test_three_channels_are_red_green_blue(make):
    inputs = torch.zeros(1, 3, 2, 2)
    inputs[0, 0, 0, 0] = 1.0
    inputs[0, 2, 1, 1] = 1.0
    image = stretched(make(torch.zeros(1, 2, 2), inputs=inputs), 0)
    assert tuple(image[0, 0]) == (255, 0, 0)
    assert tuple(image[1, 1]) == (0, 0, 255)


def test_stretch_is_linear_and_per_image(make):
    inputs = torch.tensor([[-2.0, 0.0], [1.0, 3.0]]).expand(3, 2, 2)[None]
    inputs = torch.cat([inputs, inputs * 100])
    explanation = make(torch.zeros(2, 2, 2), inputs=inputs)
    for row in (0, 1):
        grey = stretched(explanation, row)[..., 0]
        np.testing.assert_array_equal(grey, [[0, 102], [153, 255]])


def test_channels_are_stretched_together(make):
    """A tint survives: every channel alone would turn it grey."""
    inputs = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    image = stretched(make(torch.zeros(1, 2, 2), inputs=inputs), 0)
    assert (image == (0, 128, 255)).all()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channel_counts_are_averaged_to_grey(make, channels):
    inputs = torch.rand(1, channels, 6, 7, generator=torch.Generator().manual_seed(channels))
    image = stretched(make(torch.zeros(1, 6, 7), inputs=inputs), 0)
    mean = inputs[0].double().mean(0).numpy()
    expected = (mean - mean.min()) / (mean.max() - mean.min()) * 255
    assert (np.ptp(image, axis=2) == 0).all()
    assert np.abs(image[..., 0] - expected).max() <= 0.51


def test_without_a_channel_axis_and_with_channels_last(make):
    plane = torch.rand(1, 5, 7, generator=torch.Generator().manual_seed(0))
    grey = stretched(make(torch.zeros(1, 5, 7), inputs=plane), 0)
    assert grey.shape == (5, 7, 3)
    colored = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    first = stretched(make(torch.zeros(1, 5, 7), inputs=colored), 0)
    last = stretched(make(torch.zeros(1, 5, 7), inputs=colored.movedim(1, -1)), 0)
    np.testing.assert_array_equal(first, last)


def test_constant_and_non_finite_inputs_are_shown(make):
    constant = stretched(make(torch.zeros(1, 2, 2), inputs=torch.full((1, 3, 2, 2), 7.0)), 0)
    assert (constant == 128).all()
    inputs = torch.tensor([0.0, 1.0, float("nan"), float("inf")]).view(1, 1, 2, 2)
    image = stretched(make(torch.zeros(1, 2, 2), inputs=inputs), 0)[..., 0]
    np.testing.assert_array_equal(image, [[0, 255], [0, 255]])


def test_cold_areas_show_the_stretched_input(make):
    maps = torch.zeros(1, 6, 6)
    maps[0, 0, 0] = 1
    explanation = make(maps)
    image = np.array(Overlay()([explanation]))
    np.testing.assert_array_equal(image[1:], stretched(explanation, 0)[1:])


def test_a_coarser_map_is_spread_over_the_input(make):
    maps = torch.zeros(1, 2, 2)
    maps[0, 1, 0] = 1
    explanation = make(maps, inputs=torch.zeros(1, 3, 40, 40))
    changed = (np.array(Overlay()([explanation], alpha=1)) != 128).any(2)
    assert changed[25:, :15].all()
    assert not changed[:10, 30:].any()


def test_an_input_that_is_no_picture_is_an_error(make):
    explanation = make(torch.rand(1, 4, 4), inputs=torch.rand(1, 10))
    with pytest.raises(InputError, match=r"\[1, 10\].*explanation\.on"):
        Overlay()([explanation])


def test_fit_keeps_the_shape():
    assert fit(300, 450, None) == (300, 450)
    assert fit(300, 450, 150) == (100, 150)
    assert fit(3, 9000, 100) == (1, 100)


def test_large_enlargements_keep_square_pixels():
    tiny = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    large = resized(tiny, (4, 8))
    assert set(np.unique(large)) == {0, 255}
    assert resized(tiny, (1, 2)) is tiny
