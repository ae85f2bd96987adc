"""Boxes of detections: outlines in the right place, and maps that are stretched inside only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from camkit_core import Geometry, OptionError, Picture, TargetInfo
from camkit_render import Grid, HeatMap, Overlay
from camkit_render.boxes import boxes_of, within
from camkit_render.record import record
from camkit_render.scale import fields_of

NAN = float("nan")


def detected(explanation, boxes, label="class 17 at 4,2,12,8 (0.93)"):
    """The explanation with boxes `[N, P, 4]`."""
    info = TargetInfo(kind="box", label=label, boxes=torch.tensor(boxes))
    return dataclasses.replace(explanation, target=info)


def ramp(height=16, width=24):
    """From 0 to 1, left to right."""
    return torch.linspace(0, 1, width).expand(1, height, width).contiguous()


def test_every_box_has_the_full_range_and_the_rest_nothing(make):
    explanation = detected(make(ramp()), [[[4.0, 2.0, 12.0, 8.0], [18.0, 0.0, 22.0, 16.0]]])
    kept = explanation.maps.clone()
    ((field,),) = fields_of([explanation], "own")
    shown = within(explanation, 0, field).values
    for rows, columns in ((slice(2, 8), slice(4, 12)), (slice(0, 16), slice(18, 22))):
        inside = shown[rows, columns]
        expected = torch.linspace(0, 1, inside.shape[1]).expand_as(inside)
        torch.testing.assert_close(inside, expected)
        shown[rows, columns] = 0
    assert not bool(shown.any())
    assert torch.equal(explanation.maps, kept)


def test_signed_maps_keep_their_zero_and_overlaps_the_stronger_value(make):
    maps = ramp() * 2 - 1
    explanation = detected(make(maps), [[[0.0, 0.0, 12.0, 16.0], [8.0, 0.0, 24.0, 16.0]]])
    ((field,),) = fields_of([explanation], "own")
    shown = within(explanation, 0, field).values
    row = maps[0, 0]
    first = row[:12] / row[:12].abs().max()
    second = row[8:] / row[8:].abs().max()
    torch.testing.assert_close(shown[0, :8], first[:8])
    torch.testing.assert_close(shown[0, 12:], second[4:])
    both = torch.stack([first[8:], second[:4]])
    torch.testing.assert_close(shown[0, 8:12], both.gather(0, both.abs().argmax(0)[None])[0])


def test_a_constant_box_is_empty_and_a_tiny_or_outer_one_keeps_a_pixel(make):
    flat = detected(make(torch.full((1, 16, 24), 0.3)), [[[4.0, 2.0, 12.0, 8.0]]])
    ((field,),) = fields_of([flat], "own")
    assert not bool(within(flat, 0, field).values.any())
    odd = detected(make(ramp() * 2 - 1), [[[5.2, 3.1, 5.3, 3.2], [90.0, 90.0, 99.0, 99.0]]])
    ((field,),) = fields_of([odd], "own")
    assert int((within(odd, 0, field).values != 0).sum()) == 2


def test_an_image_without_the_box_is_shown_empty(make):
    boxes = [[[4.0, 2.0, 12.0, 8.0]], [[NAN] * 4]]
    explanation = detected(make(ramp().repeat(2, 1, 1)), boxes)
    assert boxes_of(explanation, 1).shape == (0, 4)
    ((_, field),) = fields_of([explanation], "own")
    assert not bool(within(explanation, 1, field).values.any())
    assert Overlay()([explanation], within="box").size[0] > 0


@pytest.mark.parametrize("renderer", [Overlay, HeatMap, Grid])
def test_the_view_is_an_option_of_every_renderer(make, renderer):
    explanation = detected(make(ramp()), [[[4.0, 2.0, 12.0, 8.0]]])
    plain, boxed = (renderer()([explanation], within=how) for how in ("image", "box"))
    assert (np.array(plain) != np.array(boxed)).any()
    with pytest.raises(
        OptionError, match="within='box' shows maps inside the boxes of a detection"
    ):
        renderer()([make(ramp())], within="box")


def test_wrong_options(make):
    explanation = detected(make(ramp()), [[[4.0, 2.0, 12.0, 8.0]]])
    with pytest.raises(OptionError, match=r"'image' or 'box', got 'boxes'.*did you mean 'box'"):
        Overlay()([explanation], within="boxes")
    with pytest.raises(OptionError, match=r"which scale='shared' forbids"):
        Overlay()([explanation], within="box", scale="shared")
    with pytest.raises(OptionError, match=r"boxes is True or False"):
        Overlay()([explanation], boxes=1)


def frame(image, photo):
    """Rows and columns of the pixels that differ: first and last of each."""
    rows, columns = np.nonzero((np.array(image) != np.array(photo)).any(2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_the_outline_lies_where_the_box_is_on_the_photo(make, noise_photo):
    """The input is the photo's right half, at half its size."""
    photo = noise_photo(80, 120)
    geometry = Geometry(
        source_size=(80, 120), input_size=(40, 30), scale=(2.0, 2.0), offset=(0.0, 60.0)
    )
    explanation = make(torch.zeros(1, 40, 30), pictures=[Picture(photo, geometry)])
    explanation = detected(explanation, [[[5.0, 10.0, 25.0, 30.0]]])
    without = Overlay()([explanation], boxes=False, captions=False, outline=False)
    np.testing.assert_array_equal(np.array(without), np.array(photo))
    drawn = Overlay()([explanation], captions=False, outline=False)
    # 2 * (5, 10, 25, 30), 60 to the right; a dark edge of one pixel around it.
    assert frame(drawn, photo) == (19, 60, 69, 110)
    assert tuple(np.array(drawn)[20, 90]) == (255, 255, 255)
    assert np.array_equal(np.array(drawn)[30:50, 75:105], np.array(photo)[30:50, 75:105])


def test_opacity_zero_is_still_the_photo(make, noise_photo):
    photo = noise_photo(16, 24)
    whole = Geometry(source_size=(16, 24), input_size=(16, 24), scale=(1.0, 1.0), offset=(0.0, 0.0))
    explanation = detected(
        make(ramp(), pictures=[Picture(photo, whole)]), [[[4.0, 2.0, 12.0, 8.0]]]
    )
    np.testing.assert_array_equal(np.array(Overlay()([explanation], alpha=0)), np.array(photo))


def test_a_single_box_bears_its_label_without_the_place(make, noise_photo):
    photo = noise_photo(200, 300)
    whole = Geometry(
        source_size=(200, 300), input_size=(200, 300), scale=(1.0, 1.0), offset=(0.0, 0.0)
    )
    blank = make(torch.zeros(1, 200, 300), pictures=[Picture(photo, whole)])
    box = [[[100.0, 100.0, 180.0, 160.0]]]
    one, other, place = (
        np.array(Overlay()([detected(blank, box, label)]))
        for label in ("cat at 1,2,3,4 (0.9)", "dog at 1,2,3,4 (0.9)", "cat at 9,9,9,9 (0.9)")
    )
    above = slice(60, 99)
    assert (one[above] != other[above]).any()
    assert np.array_equal(one[:200], place[:200])
    wordless = Overlay()([detected(blank, box)], captions=False)
    assert np.array_equal(np.array(wordless)[above], np.array(photo)[above])


def test_boxes_are_on_record(make):
    explanation = detected(make(ramp()), [[[4.0, 2.0, 12.0, NAN]]])
    assert record(explanation)["target"]["boxes"] == [[[4.0, 2.0, 12.0, "NaN"]]]
    assert record(make(ramp()))["target"]["boxes"] is None
