"""Signals and volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camkit_core import OptionError
from camkit_render import Grid, HeatMap, Overlay
from camkit_render.labels import notices
from camkit_render.scale import fields_of


def test_a_signal_is_warm_where_the_map_is(make):
    maps = torch.zeros(1, 100)
    maps[0, 70] = 1
    signal = torch.sin(torch.arange(100) / 5)[None, None]
    explanation = make(maps, inputs=signal)
    image = np.array(Overlay()([explanation], size=400)).astype(int)
    plain = np.array(Overlay()([explanation], size=400, alpha=0)).astype(int)
    changed = np.flatnonzero((image != plain).any((0, 2)))
    assert 70.5 * 4 - 4 <= changed.mean() <= 70.5 * 4 + 4
    assert np.ptp(changed) < 10
    bright = (plain > 150).all(2)
    assert bright.any(0)[4:-4].all(), "the line runs through"


def test_a_signal_is_drawn_upright(make):
    rising = torch.linspace(0, 1, 64)[None, None]
    image = np.array(Overlay()([make(torch.zeros(1, 64), inputs=rising)], alpha=0, captions=False))
    bright = (image > 150).all(2)
    first, last = np.flatnonzero(bright[:, 8])[0], np.flatnonzero(bright[:, -8])[0]
    assert first > last + image.shape[0] / 2


def test_the_heat_map_of_a_signal_is_a_strip(make):
    image = np.array(HeatMap()([make(torch.tensor([[0.0, 1.0]]))], size=64))
    assert (image == image[:1]).all()
    assert tuple(image[0, 0]) == (0, 0, 4)
    assert tuple(image[0, -1]) == (252, 255, 164)


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_signals_with_any_number_of_channels_and_non_finite_samples(make, channels):
    inputs = torch.rand(1, channels, 50)
    inputs[0, 0, 10] = float("nan")
    image = Overlay()([make(torch.rand(1, 50), inputs=inputs)], size=128)
    assert image.width == 128


def test_a_volume_shows_the_warm_slice_warm(make):
    maps = torch.zeros(1, 9, 20, 20)
    maps[0, 4, 5:10, 12:17] = 1
    inputs = torch.rand(1, 1, 9, 20, 20, generator=torch.Generator().manual_seed(0))
    explanation = make(maps, inputs=inputs)
    image = np.array(Overlay()([explanation], slices=9)).astype(int)
    plain = np.array(Overlay()([explanation], slices=9, alpha=0)).astype(int)
    changed = np.argwhere((image != plain).any(2))
    height, width = image.shape[0] / 3, image.shape[1] / 3
    assert len(changed) > 100
    rows, columns = changed[:, 0] // height, changed[:, 1] // width
    assert set(rows) == {1}, "slice 4 of 9 is the middle one"
    assert set(columns) == {1}
    tile = changed - [image.shape[0] - 2 * height, width]  # seen from the tile's left border
    assert (tile[:, 1] > 0.5 * width).all()


def test_slices_are_evenly_spaced_and_numbered(make):
    maps = torch.arange(40.0).view(1, 40, 1, 1).expand(1, 40, 8, 8) / 39
    image = np.array(HeatMap()([make(maps.contiguous())], slices=4, colormap="gray")).astype(int)
    height, width = image.shape[0] // 2, image.shape[1] // 2
    greys = [
        image[row * height + height // 2 + 10, column * width + width // 2, 0]
        for row in (0, 1)
        for column in (0, 1)
    ]
    expected = [round(index / 39 * 255) for index in (5, 15, 25, 35)]
    assert np.abs(np.array(greys) - expected).max() <= 1


def test_a_coarser_map_of_a_volume_uses_the_slices_it_belongs_to(make):
    inputs = torch.zeros(1, 1, 8, 16, 16)
    inputs[0, 0, 6:] = 1
    explanation = make(torch.zeros(1, 2, 4, 4), inputs=inputs)
    image = np.array(Overlay()([explanation], captions=False, slices=2))
    left, right = image[40:100, 20:100], image[40:100, 130:200]
    assert (left == 0).all()
    assert (right == 255).all()


def test_video_keeps_its_colors(make):
    inputs = torch.zeros(1, 3, 4, 16, 16)
    inputs[:, 0] = 1
    image = np.array(Overlay()([make(torch.zeros(1, 4, 16, 16), inputs=inputs)], captions=False))
    assert ((image == (255, 0, 0)).all(2)).mean() > 0.7


def test_mixed_axes_share_a_grid(make):
    signal = make(torch.rand(1, 40), inputs=torch.rand(1, 2, 40))
    volume = make(torch.rand(1, 4, 8, 8), inputs=torch.rand(1, 1, 4, 8, 8))
    sheet = Grid()([signal, volume], size=128)
    assert sheet.height > Grid()([signal], size=128).height


@pytest.mark.parametrize("renderer", [Overlay, HeatMap, Grid])
def test_more_axes_are_refused(make, renderer):
    explanation = make(torch.rand(1, 2, 2, 2, 2), inputs=torch.rand(1, 1, 2, 2, 2, 2))
    with pytest.raises(OptionError, match=r"4 spatial axes .*\.npz"):
        renderer()([explanation])


def test_an_empty_signal_map_says_so(make):
    explanation = make(torch.zeros(1, 30), inputs=torch.rand(1, 1, 30))
    (notice,) = notices(explanation, 0, fields_of([explanation], "own")[0][0])
    assert "empty" in notice
    assert Overlay()([explanation]).height > Overlay()([explanation], captions=False).height
