"""Masks from files, and places on photos, against pixels that are followed by hand."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from camkit_core import Geometry, Picture, TargetError
from camkit_tasks import ImagePreprocess
from camkit_tasks.targets.regions import on_input, pixel_on_input, read_mask

PAINTED = torch.zeros(6, 8, dtype=torch.bool)
PAINTED[1:4, 2:7] = True


def image_of(mask: torch.Tensor, on: int = 255) -> Image.Image:
    return Image.fromarray((mask * on).to(torch.uint8).numpy())


def palette(image: Image.Image) -> Image.Image:
    labels = image.convert("P")
    labels.putpalette([0, 0, 0, 1, 1, 1, 9, 9, 9])
    return labels


FILES = {
    "gray.png": image_of(PAINTED),
    "faint.png": image_of(PAINTED, on=1),
    "bits.png": image_of(PAINTED).convert("1"),
    "color.png": image_of(PAINTED).convert("RGB"),
    "alpha.png": image_of(PAINTED).convert("RGBA"),
    "labels.png": palette(image_of(PAINTED, on=2)),
    "lossless.webp": image_of(PAINTED),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mask_is_white_on_black_in_any_kind_of_image(name, tmp_path):
    FILES[name].save(tmp_path / name, lossless=True)
    assert torch.equal(read_mask(tmp_path / name), PAINTED)


def test_edges_that_were_smoothed_are_split_in_the_middle(tmp_path):
    values = torch.tensor([[0, 60, 127, 128, 200, 255]], dtype=torch.uint8)
    Image.fromarray(values.numpy()).save(tmp_path / "soft.png")
    assert read_mask(tmp_path / "soft.png").tolist() == [[False] * 3 + [True] * 3]


def test_a_mask_is_turned_as_its_photo_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    image_of(PAINTED).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_mask(tmp_path / "turned.png"), PAINTED.rot90(-1))


def test_files_that_hold_no_mask_are_refused(tmp_path):
    with pytest.raises(TargetError, match=r"nowhere\.png does not exist"):
        read_mask(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("white on black")
    with pytest.raises(TargetError, match=r"text\.png cannot be read as an image"):
        read_mask(tmp_path / "text.png")
    image_of(torch.zeros(3, 4)).save(tmp_path / "black.png")
    with pytest.raises(TargetError, match=r"black\.png is empty: paint the region white on black"):
        read_mask(tmp_path / "black.png")


def prepared(size: tuple[int, int], resize: int, crop: tuple[int, int]) -> Picture:
    """The picture of a photo (height, width) that is resized and cropped."""
    photo = Image.new("RGB", (size[1], size[0]))
    (picture,) = ImagePreprocess(resize=resize, crop=crop)(photo).pictures
    return picture


def test_a_mask_of_the_photo_is_resized_and_cropped_as_the_photo_is():
    picture = prepared((40, 80), 20, (16, 16))  # half the size, then 2 rows and 12 columns away
    mask = torch.zeros(40, 80, dtype=torch.bool)
    mask[10:20, 30:50] = True
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[3:8, 3:13] = True
    assert torch.equal(on_input(mask, [picture], "it"), wanted[None])
    coarse = mask[::2, ::2]  # a mask of half the photo's resolution shows the same
    assert torch.equal(on_input(coarse, [picture], "it"), wanted[None])


def test_every_photo_has_a_cut_of_its_own():
    pictures = [prepared((40, 80), 20, (16, 16)), prepared((20, 40), 20, (16, 16))]
    mask = torch.rand(20, 40, generator=torch.Generator().manual_seed(0)) > 0.5
    first, second = on_input(mask, pictures, "it")
    assert torch.equal(first, second)
    assert torch.equal(second, mask[2:18, 12:28])


def test_a_mask_of_the_size_of_the_input_is_taken_as_it_is():
    picture = prepared((40, 80), 20, (16, 16))
    mask = torch.eye(16, dtype=torch.bool)
    assert torch.equal(on_input(mask, [picture], "it")[0], mask)
    assert on_input(mask, [], "it") is mask


def test_where_the_input_was_padded_there_is_no_mask():
    geometry = Geometry(source_size=(4, 4), input_size=(4, 8), scale=(1, 1), offset=(0, -2))
    found = on_input(torch.ones(4, 4, dtype=torch.bool), [Picture(None, geometry)], "it")[0]
    assert found.tolist() == [[False] * 2 + [True] * 4 + [False] * 2] * 4


def test_a_mask_of_other_proportions_is_refused():
    with pytest.raises(TargetError, match="it is 40 x 40 pixels, but the photo is 80 x 40"):
        on_input(torch.ones(40, 40, dtype=torch.bool), [prepared((40, 80), 20, (16, 16))], "it")


def test_a_pixel_of_the_photo_is_where_its_paint_ends_up():
    picture = prepared((60, 90), 20, (16, 20))  # a third of the size, minus 2 rows and 5 columns
    for x, y in ((45, 30), (16, 7), (74, 53)):
        column, row = pixel_on_input((x, y), picture)
        assert column == pytest.approx((x + 0.5) / 3 - 5 - 0.5)
        assert row == pytest.approx((y + 0.5) / 3 - 2 - 0.5)


def test_a_photo_that_is_not_resized_keeps_its_pixels():
    picture = prepared((20, 30), 20, (20, 30))
    for x, y in ((0, 0), (29, 19), (11, 7)):
        assert pixel_on_input((x, y), picture) == (x, y)


def test_the_first_pixel_of_an_enlarged_photo_is_on_the_input():
    picture = prepared((4, 4), 16, (16, 16))
    assert pixel_on_input((0, 0), picture) == (1.5, 1.5)
    shrunk = prepared((32, 32), 8, (8, 8))
    assert pixel_on_input((0, 31), shrunk) == (0.0, pytest.approx(7.375))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((90, 0), r"pixel \(90, 0\) is not on the photo of 90 x 60"),
        ((-1, 0), "is not on the photo"),
        ((2, 30), r"pixel \(2, 30\) of the photo is cut away"),
        ((45, 59), "is cut away"),
        ((1, 2, 3), "has two coordinates"),
    ],
)
def test_pixels_that_the_model_does_not_see_are_refused(at, said):
    with pytest.raises(TargetError, match=said):
        pixel_on_input(at, prepared((60, 90), 20, (16, 20)))
