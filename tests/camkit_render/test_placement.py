"""The map lies where the model looked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from camkit_core import Geometry, InputError
from camkit_render import place


def slow(field, geometry):
    """Every photo pixel on its own, in Python floats."""
    height, width = geometry.source_size
    values, inside = np.zeros((height, width)), np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            v = (y + 0.5 - geometry.offset[0]) / geometry.scale[0]  # input pixel edges
            u = (x + 0.5 - geometry.offset[1]) / geometry.scale[1]
            if not (0 <= v < geometry.input_size[0] and 0 <= u < geometry.input_size[1]):
                continue
            inside[y, x] = True
            row = v * field.shape[0] / geometry.input_size[0] - 0.5
            column = u * field.shape[1] / geometry.input_size[1] - 0.5
            row = min(max(row, 0), field.shape[0] - 1)
            column = min(max(column, 0), field.shape[1] - 1)
            r, c = math.floor(row), math.floor(column)
            r1, c1 = min(r + 1, field.shape[0] - 1), min(c + 1, field.shape[1] - 1)
            a, b = row - r, column - c
            values[y, x] = (1 - a) * ((1 - b) * field[r, c] + b * field[r, c1]) + a * (
                (1 - b) * field[r1, c] + b * field[r1, c1]
            )
    return values, inside


sides = st.integers(3, 14)
enlargement = st.floats(1.0, 3.5)
shift = st.floats(-6.0, 6.0)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(sides, sides),
    view=st.tuples(sides, sides),
    scale=st.tuples(enlargement, enlargement),
    offset=st.tuples(shift, shift),
    coarse=st.booleans(),
)
def test_equals_pixel_by_pixel_bilinear_sampling(source, view, scale, offset, coarse):
    geometry = Geometry(source_size=source, input_size=view, scale=scale, offset=offset)
    shape = tuple(max(1, side // 2) for side in view) if coarse else view
    field = torch.rand(shape, generator=torch.Generator().manual_seed(sum(source)))
    values, inside = place(field, geometry)
    expected, seen = slow(field.double().numpy(), geometry)
    edges = [
        (np.arange(size) + 0.5 - start) / (step * count)
        for size, start, step, count in zip(source, offset, scale, view, strict=True)
    ]
    doubtful = [np.minimum(abs(edge), abs(edge - 1)) < 1e-9 for edge in edges]
    sure = ~(doubtful[0][:, None] | doubtful[1][None, :])
    np.testing.assert_array_equal(inside.numpy()[sure], seen[sure])
    np.testing.assert_allclose(values.numpy()[sure], expected[sure], atol=2e-6)


@pytest.mark.parametrize("spot", [(1, 1), (11, 200), (112, 7), (222, 222), (57, 120)])
@pytest.mark.parametrize("size", [(300, 451), (640, 427), (1000, 260)])
def test_a_delta_lands_within_half_a_photo_pixel(crop_geometry, spot, size):
    geometry = crop_geometry(*size, short=256, size=224)
    field = torch.zeros(224, 224)
    field[spot] = 1
    values, _ = place(field, geometry)
    expected = [geometry.offset[a] + geometry.scale[a] * (spot[a] + 0.5) for a in (0, 1)]
    hottest = (values == values.max()).nonzero() + 0.5
    away = (hottest.double() - torch.tensor(expected, dtype=torch.float64)).abs().amax(1)
    assert values.max() > 0.2
    assert len(hottest) <= 4
    assert away.min() <= 0.5 + 1e-6


@pytest.mark.parametrize(("y", "x"), [(60, 150), (150, 225), (240, 330), (151, 100)])
def test_what_pillow_resized_and_cropped_comes_back_to_its_place(crop_geometry, y, x):
    """The round trip through real preprocessing, which knows nothing of our formula."""
    photo = np.zeros((300, 451), np.float32)
    photo[y - 3 : y + 4, x - 3 : x + 4] = 1
    geometry = crop_geometry(300, 451, short=256, size=224)
    resized = Image.fromarray(photo).resize((385, 256), Image.Resampling.BILINEAR)
    left, top = round((385 - 224) / 2), round((256 - 224) / 2)
    seen = torch.from_numpy(np.array(resized.crop((left, top, left + 224, top + 224))))
    values, _ = place(seen, geometry)
    assert seen.sum() > 10
    weight = values / values.sum()
    center_y = float((weight.sum(1) * torch.arange(300)).sum())
    center_x = float((weight.sum(0) * torch.arange(451)).sum())
    assert abs(center_y - y) < 0.05
    assert abs(center_x - x) < 0.05


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (1, 1), (31, 44)])
def test_identity_is_plain_bilinear_resize(shape):
    geometry = Geometry(
        source_size=(31, 44), input_size=(31, 44), scale=(1.0, 1.0), offset=(0.0, 0.0)
    )
    field = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    values, inside = place(field, geometry)
    expected = functional.interpolate(
        field[None, None], size=(31, 44), mode="bilinear", align_corners=False
    )[0, 0]
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
    assert inside.all()


def test_same_resolution_is_the_map_itself():
    field = torch.rand(31, 44, generator=torch.Generator().manual_seed(2))
    geometry = Geometry(
        source_size=(31, 44), input_size=(31, 44), scale=(1.0, 1.0), offset=(0.0, 0.0)
    )
    assert torch.equal(place(field, geometry)[0], field)


def test_nothing_outside_the_models_view():
    geometry = Geometry(
        source_size=(40, 60), input_size=(10, 10), scale=(2.0, 2.0), offset=(8.0, 31.0)
    )
    values, inside = place(torch.ones(10, 10), geometry)
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[8:28, 31:51] = True
    assert torch.equal(inside, expected)
    assert torch.equal(values, expected.float())


def test_padding_around_the_photo_is_cut_off():
    """A letterboxed input is larger than the photo: its borders are not on the photo."""
    geometry = Geometry(
        source_size=(20, 40), input_size=(40, 40), scale=(1.0, 1.0), offset=(-10.0, 0.0)
    )
    field = torch.arange(40.0)[:, None].expand(40, 40).contiguous()
    values, inside = place(field, geometry)
    assert inside.all()
    assert torch.equal(values[:, 5], torch.arange(10.0, 30.0))


def test_a_smaller_canvas_shows_the_same_place(crop_geometry):
    geometry = crop_geometry(600, 902, short=256, size=224)
    field = torch.zeros(224, 224)
    field[50:60, 160:170] = 1
    whole, _ = place(field, geometry)
    small, _ = place(field, geometry, (100, 150))
    for axis in (0, 1):
        positions = [
            float((v.sum(1 - axis) * (torch.arange(v.shape[axis]) + 0.5)).sum() / v.sum())
            / v.shape[axis]
            for v in (whole, small)
        ]
        assert abs(positions[0] - positions[1]) * geometry.source_size[axis] < 0.5


def test_shrinking_averages_instead_of_skipping():
    field = torch.zeros(64, 64)
    field[::2, ::2] = 1  # one in four: point samples would see all or nothing
    geometry = Geometry(
        source_size=(64, 64), input_size=(64, 64), scale=(1.0, 1.0), offset=(0.0, 0.0)
    )
    values, _ = place(field, geometry, (16, 16))
    torch.testing.assert_close(values, torch.full((16, 16), 0.25))


@pytest.mark.parametrize(
    "scale", [(0.0, 1.0), (1.0, -2.0), (float("nan"), 1.0), (float("inf"), 1.0)]
)
def test_a_view_without_area_is_an_error(scale):
    geometry = Geometry(source_size=(4, 4), input_size=(4, 4), scale=scale, offset=(0.0, 0.0))
    with pytest.raises(InputError, match="no place on the photo"):
        place(torch.ones(4, 4), geometry)
