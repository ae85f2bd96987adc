"""Colors and bytes of overlays and heat maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from camkit_core import Geometry, InputError, Issue, Picture
from camkit_render import HeatMap, Overlay
from camkit_render.labels import notices
from camkit_render.scale import fields_of

INFERNO = ((0, 0, 4), (252, 255, 164))  # first and last entry, as published
JET = ((0, 0, 128), (128, 0, 0))


def whole(height, width):
    return Geometry(
        source_size=(height, width),
        input_size=(height, width),
        scale=(1.0, 1.0),
        offset=(0.0, 0.0),
    )


def ramp(height=20, width=32):
    """0 in the left half, rising to 1 at the right border."""
    return (torch.arange(width).float() - width // 2).clamp(min=0).expand(1, height, width) / (
        width - 1 - width // 2
    )


@pytest.fixture
def shown(make, noise_photo):
    """The ramp on a photo of its own size."""
    photo = noise_photo(20, 32)
    return make(ramp().contiguous(), pictures=[Picture(photo, whole(20, 32))]), np.array(photo)


def test_alpha_zero_is_the_photo_byte_for_byte(make, noise_photo, crop_geometry):
    photo = noise_photo(60, 91)
    picture = Picture(photo, crop_geometry(60, 91, short=40, size=32))
    image = Overlay()([make(torch.rand(1, 32, 32), pictures=[picture])], alpha=0)
    np.testing.assert_array_equal(np.array(image), np.array(photo))
    flat = Overlay()([make(torch.rand(1, 32, 32), pictures=[picture])], alpha=0, flat_alpha=True)
    np.testing.assert_array_equal(np.array(flat), np.array(photo))


def test_cold_areas_keep_the_photo_and_warm_ones_do_not(shown):
    explanation, photo = shown
    image = np.array(Overlay()([explanation]))
    np.testing.assert_array_equal(image[:, :17], photo[:, :17])
    assert (image[:, 20:] != photo[:, 20:]).any(2).mean() > 0.95


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_blending_equation(shown, alpha):
    explanation, photo = shown
    image = np.array(Overlay()([explanation], alpha=alpha)).astype(int)
    colors = np.array(HeatMap()([explanation])).astype(float)
    value = ramp()[0].double().numpy()[..., None]
    expected = photo * (1 - alpha * value) + colors * alpha * value
    assert np.abs(image - expected).max() <= 0.51


def test_flat_alpha_is_the_paper_look(shown):
    explanation, photo = shown
    image = np.array(Overlay()([explanation], alpha=0.4, flat_alpha=True, colormap="jet"))
    expected = photo[:, 0] * 0.6 + np.array(JET[0]) * 0.4
    assert np.abs(image[:, 0] - expected).max() <= 0.51


def test_brightness_does_not_depend_on_the_hottest_pixel(make):
    """Dividing the blend by its maximum would darken everything else."""
    photo = Image.new("RGB", (16, 16), (200, 120, 40))
    maps = torch.zeros(1, 16, 16)
    maps[0, 3, 4] = 1
    image = np.array(Overlay()([make(maps, pictures=[Picture(photo, whole(16, 16))])], alpha=1))
    assert tuple(image[3, 4]) == INFERNO[1]
    image[3, 4] = (200, 120, 40)
    assert (image == (200, 120, 40)).all()


def test_red_stays_red(make):
    photo = Image.new("RGB", (8, 8), (255, 0, 0))
    image = Overlay()([make(torch.zeros(1, 8, 8), pictures=[Picture(photo, whole(8, 8))])])
    assert image.mode == "RGB"
    assert image.getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize(("name", "ends"), [("inferno", INFERNO), ("jet", JET)])
def test_color_maps_are_exact_at_both_ends(make, name, ends):
    maps = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    image = np.array(HeatMap()([make(maps)], colormap=name))
    assert tuple(image[0, 0]) == tuple(image[1, 1]) == ends[0]
    assert tuple(image[0, 1]) == tuple(image[1, 0]) == ends[1]


def test_heat_map_has_the_resolution_of_the_map(make):
    maps = torch.rand(1, 5, 9)
    assert HeatMap()([make(maps)]).size == (9, 5)
    assert HeatMap()([make(maps)], size=90).size == (90, 50)


def test_outside_the_view_the_photo_is_untouched(make, noise_photo):
    photo = noise_photo(40, 60)
    geometry = Geometry(
        source_size=(40, 60), input_size=(10, 10), scale=(2.0, 2.0), offset=(8.0, 31.0)
    )
    explanation = make(torch.ones(1, 10, 10), pictures=[Picture(photo, geometry)])
    expected = np.zeros((40, 60), bool)
    expected[8:28, 31:51] = True
    for flat in (False, True):
        image = np.array(Overlay()([explanation], outline=False, flat_alpha=flat))
        changed = (image != np.array(photo)).any(2)
        assert not changed[~expected].any()
        assert changed[expected].all()


def test_the_outline_runs_right_around_the_view(make, noise_photo):
    photo = noise_photo(40, 60)
    geometry = Geometry(
        source_size=(40, 60), input_size=(10, 10), scale=(2.0, 2.0), offset=(0.0, 31.0)
    )
    explanation = make(torch.zeros(1, 10, 10), pictures=[Picture(photo, geometry)])
    image = np.array(Overlay()([explanation], alpha=1.0, captions=False))
    changed = (image != np.array(photo)).any(2)
    ring = np.zeros((40, 60), bool)
    ring[0:21, 30:52] = True  # the view touches the top border: no line there
    ring[0:20, 31:51] = False
    assert not changed[~ring].any()
    assert changed[ring].mean() > 0.9


def test_a_full_view_has_no_outline(make, noise_photo):
    photo = noise_photo(12, 12)
    explanation = make(torch.zeros(1, 12, 12), pictures=[Picture(photo, whole(12, 12))])
    image = Overlay()([explanation], captions=False, alpha=1.0)
    np.testing.assert_array_equal(np.array(image), np.array(photo))


def test_orientation_is_not_applied_a_second_time(make, noise_photo):
    """The photo is upright already; a leftover EXIF tag must not turn it."""
    photo = noise_photo(30, 20)
    photo.getexif()[0x0112] = 6
    photo.info["exif"] = photo.getexif().tobytes()
    maps = torch.zeros(1, 30, 20)
    maps[0, 25, 2] = 1
    picture = Picture(photo, whole(30, 20))
    image = np.array(Overlay()([make(maps, pictures=[picture])], alpha=1))
    assert image.shape == (30, 20, 3)
    assert tuple(image[25, 2]) == INFERNO[1]
    assert (image != np.array(photo)).any(2).sum() == 1


def test_an_empty_map_leaves_the_photo_and_says_why(make, noise_photo):
    photo = noise_photo(200, 300)
    picture = Picture(photo, whole(200, 300))
    words = ["the map of layer4 is negative everywhere", "gradients vanish before layer4"]
    images = []
    for word in words:
        issue = Issue("all_negative", word, (0,), "layer4")
        explanation = make(torch.zeros(1, 200, 300), pictures=[picture], issues=[issue])
        images.append(np.array(Overlay()([explanation])))
        np.testing.assert_array_equal(images[-1][:200], np.array(photo))
        assert (images[-1][200:] < 128).any(), "the caption has ink"
    assert (images[0] != images[1]).any(), "the caption is the issue's message"
    explanation = make(torch.zeros(1, 200, 300), pictures=[picture])
    assert Overlay()([explanation]).height > 200, "an empty map is explained without an issue too"
    silent = Overlay()([explanation], captions=False)
    np.testing.assert_array_equal(np.array(silent), np.array(photo))


def test_notices_are_those_of_the_image(make):
    issues = [Issue("a", "first only", (0,)), Issue("b", "second only", (1,)), Issue("c", "all")]
    explanation = make(torch.rand(2, 4, 4), issues=issues)
    fields = fields_of([explanation], "own")[0]
    assert notices(explanation, 0, fields[0]) == ["first only", "all"]
    assert notices(explanation, 1, fields[1]) == ["second only", "all"]


def test_non_finite_values_are_not_painted_and_reported(make, noise_photo):
    photo = noise_photo(12, 12)
    maps = torch.ones(1, 12, 12)
    maps[0, 2, 3], maps[0, 5, 5] = float("nan"), float("inf")
    explanation = make(maps, pictures=[Picture(photo, whole(12, 12))])
    image = np.array(Overlay()([explanation], alpha=1))
    for y, x in ((2, 3), (5, 5)):
        np.testing.assert_array_equal(image[y, x], np.array(photo)[y, x])
    assert tuple(image[0, 0]) == INFERNO[1]
    (notice,) = notices(explanation, 0, fields_of([explanation], "own")[0][0])
    assert notice.startswith("2 values are NaN or infinite")


def test_signed_maps_are_symmetric_about_zero(make):
    maps = torch.tensor([[[-0.5, 0.0, 0.5, 1.0]]])
    low, zero, half, top = np.array(HeatMap()([make(maps)]))[0].astype(int)
    assert top[0] - top[2] > 100, "positive is red"
    assert low[2] - low[0] > 50, "negative is blue"
    assert np.ptp(zero) <= 2, "zero is grey"
    wide = torch.tensor([[[-1.0, 0.0, 0.5, 1.0]]])
    blue, zero_again, *_ = np.array(HeatMap()([make(wide)]))[0].astype(int)
    np.testing.assert_array_equal(zero, zero_again)
    assert blue[0] < low[0], "half as negative is half as blue"
    assert abs(int(half[0]) - int(low[2])) < 20, "mirror images are equally strong"


def test_signed_opacity_follows_the_magnitude(make):
    photo = Image.new("RGB", (3, 1), (100, 100, 100))
    maps = torch.tensor([[[-1.0, 0.0, 1.0]]])
    explanation = make(maps, pictures=[Picture(photo, whole(1, 3))])
    image = np.array(Overlay()([explanation], alpha=0.5))[0].astype(float)
    colors = np.array(HeatMap()([explanation]))[0].astype(float)
    np.testing.assert_array_equal(image[1], [100, 100, 100])
    for column in (0, 2):
        assert np.abs(image[column] - (100 + colors[column]) / 2).max() <= 0.51


def test_a_diverging_color_map_serves_signed_maps_too(make):
    explanation = make(torch.tensor([[[-1.0, 0.0, 1.0]]]))
    image = np.array(HeatMap()([explanation], colormap="matplotlib:bwr"))[0]
    assert [tuple(pixel) for pixel in image] == [(0, 0, 255), (255, 255, 255), (255, 0, 0)]
    other = np.array(HeatMap()([explanation], signed_colormap="matplotlib:bwr"))[0]
    np.testing.assert_array_equal(image, other)
    unchanged = np.array(HeatMap()([explanation], colormap="jet"))[0]
    np.testing.assert_array_equal(unchanged, np.array(HeatMap()([explanation]))[0])


def test_the_photos_color_profile_is_kept(make, noise_photo):
    profile = bytes(16) + b"RGB " + bytes(200)
    photo = noise_photo(12, 12)
    photo.info["icc_profile"] = profile
    explanation = make(torch.rand(1, 12, 12), pictures=[Picture(photo, whole(12, 12))])
    assert Overlay()([explanation]).info["icc_profile"] == profile
    captioned = make(torch.zeros(1, 12, 12), pictures=explanation.pictures)
    assert Overlay()([captioned]).info["icc_profile"] == profile
    photo.info["icc_profile"] = bytes(16) + b"CMYK" + bytes(200)
    assert "icc_profile" not in Overlay()([explanation]).info


def test_transparency_is_laid_over_white(make):
    photo = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    explanation = make(torch.zeros(1, 4, 4), pictures=[Picture(photo, whole(4, 4))])
    assert Overlay()([explanation], captions=False).getpixel((1, 1)) == (255, 255, 255)


def test_a_photo_that_does_not_fit_its_geometry_is_an_error(make, noise_photo):
    picture = Picture(noise_photo(20, 30), whole(30, 20))
    with pytest.raises(InputError, match=r"30x20 .* made for 20x30.*EXIF"):
        Overlay()([make(torch.rand(1, 30, 20), pictures=[picture])])
    pictures = [Picture(noise_photo(4, 4), whole(4, 4))]
    with pytest.raises(InputError, match="1 pictures for 2 images"):
        Overlay()([make(torch.rand(2, 4, 4), pictures=pictures)])


def test_one_explanation_needs_no_list(make):
    explanation = make(torch.rand(1, 6, 6))
    np.testing.assert_array_equal(
        np.array(Overlay()(explanation)), np.array(Overlay()([explanation]))
    )


def test_a_caller_keeps_maps_and_photo(shown):
    explanation, photo = shown
    before = explanation.maps.clone()
    Overlay()([explanation], alpha=1)
    assert torch.equal(explanation.maps, before)
    np.testing.assert_array_equal(np.array(explanation.pictures[0].photo), photo)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_and_maps_that_require_gradients(make, dtype):
    maps = torch.tensor([[[0.0, 1.0]]], dtype=dtype, requires_grad=True)
    image = np.array(HeatMap()([make(maps)]))
    assert [tuple(pixel) for pixel in image[0]] == list(INFERNO)
