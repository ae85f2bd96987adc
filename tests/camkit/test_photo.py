"""`camkit.open_photo`: right colors, upright, and clear errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

import camkit
from camkit import photo as module
from camkit_core import InputError, UnsafeFileError


def saved(path: str, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return path


def test_rgb_is_returned_as_it_is() -> None:
    image = Image.new("RGB", (5, 4), (10, 20, 30))
    image.putpixel((3, 2), (200, 100, 50))
    opened = camkit.open_photo(saved("a.png", image))
    assert opened.mode == "RGB"
    assert opened.tobytes() == image.tobytes()


def test_strings_and_paths_are_taken() -> None:
    saved("a.png", Image.new("RGB", (2, 2), (1, 2, 3)))
    assert camkit.open_photo("a.png").tobytes() == camkit.open_photo(Path("a.png")).tobytes()


# The upright picture has its red corner top left; each orientation says where that corner lies in
# the stored picture (column, row of a 5 x 3 one, or 3 x 5 where the axes are exchanged).
ORIENTATIONS = {
    1: ((5, 3), (0, 0)),
    2: ((5, 3), (4, 0)),
    3: ((5, 3), (4, 2)),
    4: ((5, 3), (0, 2)),
    5: ((3, 5), (0, 0)),
    6: ((3, 5), (0, 4)),
    7: ((3, 5), (2, 4)),
    8: ((3, 5), (2, 0)),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation: int) -> None:
    size, corner = ORIENTATIONS[orientation]
    stored = Image.new("RGB", size, (0, 0, 255))
    stored.putpixel(corner, (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = camkit.open_photo(saved("a.png", stored, exif=exif))
    assert opened.size == (5, 3)
    assert opened.getpixel((0, 0)) == (255, 0, 0)
    assert sum(opened.getpixel((x, y))[0] == 255 for x in range(5) for y in range(3)) == 1
    assert opened.getexif().get(0x0112, 1) == 1


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    opened = camkit.open_photo(saved("a.png", image))
    assert [opened.getpixel((x, 0)) for x in range(3)] == [
        (255, 255, 255),
        (200, 0, 0),
        (127, 127, 127),
    ]


def test_gray_with_alpha_is_laid_on_white() -> None:
    opened = camkit.open_photo(saved("a.png", Image.new("LA", (2, 2), (10, 0))))
    assert opened.getpixel((0, 0)) == (255, 255, 255)


def test_palette_is_looked_up_with_its_transparency() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    assert camkit.open_photo(saved("plain.png", image)).getpixel((0, 0)) == (255, 0, 0)
    opened = camkit.open_photo(saved("clear.png", image, transparency=0))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 255, 0)]


def test_sixteen_bit_gray_is_scaled_and_not_clipped() -> None:
    values = [0, 257, 1000, 32768, 65535]
    image = Image.new("I;16", (5, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    for name in ("a.png", "a.tif"):
        opened = camkit.open_photo(saved(name, image))
        assert opened.mode == "RGB"
        assert [opened.getpixel((x, 0))[0] for x in range(5)] == [0, 1, 4, 128, 255]


def test_sixteen_bit_netpbm_is_scaled_also_where_it_is_dark() -> None:
    Path("a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0, 200, 255, 255]))
    Path("dark.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0, 200, 0, 100]))
    assert [camkit.open_photo("a.pgm").getpixel((x, 0))[0] for x in range(2)] == [1, 255]
    assert [camkit.open_photo("dark.pgm").getpixel((x, 0))[0] for x in range(2)] == [1, 0]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_defined_white_are_refused(mode: str) -> None:
    saved("a.tif", Image.new(mode, (2, 2), 300))
    with pytest.raises(InputError, match="no value means white; convert it to 8 or 16 bits"):
        camkit.open_photo("a.tif")


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str) -> None:
    white = {"1": 1, "L": 255, "CMYK": (0, 0, 0, 0), "YCbCr": (255, 128, 128)}[mode]
    # Compressed: Pillow before 13 cannot read back its own plain YCbCr.
    form = {"compression": "tiff_lzw"} if mode in ("CMYK", "YCbCr") else {}
    path = "a.tif" if form else "a.png"
    opened = camkit.open_photo(saved(path, Image.new(mode, (2, 2), white), **form))
    assert opened.mode == "RGB"
    assert min(opened.getpixel((1, 1))) >= 254


def test_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert camkit.open_photo("a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_missing_file_names_the_nearest_ones() -> None:
    saved("chelsea.png", Image.new("RGB", (2, 2)))
    with pytest.raises(InputError, match=r"no image 'chelsae\.png'; did you mean 'chelsea\.png'\?"):
        camkit.open_photo("chelsae.png")


def test_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match="the folder 'nowhere' does not exist"):
        camkit.open_photo("nowhere/a.png")


def test_folder_says_to_name_the_photos() -> None:
    Path("photos").mkdir()
    with pytest.raises(InputError, match=r"'photos' is a folder; name the photos in it"):
        camkit.open_photo("photos")


def test_special_files_are_refused_without_reading() -> None:
    os.mkfifo("pipe")
    with pytest.raises(InputError, match="not a regular file"):
        camkit.open_photo("pipe")


@pytest.mark.parametrize("name", ["x" * 400, "a\0b"])
def test_impossible_names_are_input_errors(name: str) -> None:
    with pytest.raises(InputError):
        camkit.open_photo(name)


def test_not_an_image_lists_the_formats() -> None:
    Path("notes.png").write_text("no picture")
    with pytest.raises(InputError, match=r"'notes\.png' is not an image .*JPEG, PNG"):
        camkit.open_photo("notes.png")


def test_formats_that_start_programs_are_not_opened() -> None:
    saved("a.eps", Image.new("RGB", (4, 4)))
    with pytest.raises(InputError, match="is not an image that can be opened"):
        camkit.open_photo("a.eps")


def test_empty_file_says_so() -> None:
    Path("a.jpg").touch()
    with pytest.raises(InputError, match="is empty"):
        camkit.open_photo("a.jpg")


@pytest.mark.parametrize("form", ["png", "jpg", "webp", "bmp", "tif", "gif"])
def test_truncated_files_are_errors_and_not_gray_areas(form: str) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    whole = Path(saved(f"whole.{form}", noise)).read_bytes()
    Path(f"a.{form}").write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(InputError, match=rf"'a\.{form}' (cannot be decoded|is not an image)"):
        camkit.open_photo(f"a.{form}")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9000, 9000), (10000, 10000), (60000, 60000)])
def test_bombs_are_refused_from_the_header(size: tuple[int, int]) -> None:
    Path("bomb.png").write_bytes(png_header(*size))
    with pytest.raises(UnsafeFileError, match=r"'bomb\.png'"):
        camkit.open_photo("bomb.png")


def test_the_cap_counts_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    saved("a.png", Image.new("RGB", (10, 11)))
    monkeypatch.setattr(module, "MAX_PIXELS", 109)
    with pytest.raises(UnsafeFileError, match="10 x 11 = 110 pixels, more than the limit of 109"):
        camkit.open_photo("a.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 110)
    assert camkit.open_photo("a.png").size == (10, 11)


def test_the_file_is_closed() -> None:
    saved("a.png", Image.new("RGB", (2, 2)))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    camkit.open_photo("a.png")
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before
