"""Opens photos the way people look at them."""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from camkit_core import InputError, UnsafeFileError, default_registry, near

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 80_000_000
"""Largest photo that is decoded; a decoded RGB photo of this size takes 240 MB."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""Formats that are decoded. Others can start programs (EPS) or are rarely photos."""

_AT_MOST_16_BITS = ("PNG", "PPM")
"""Formats whose gray never has more than 16 bits, even where Pillow opens it with 32."""

_WHITE = (255, 255, 255, 255)


def open_photo(path: str | os.PathLike[str]) -> Image.Image:
    """The photo at `path` as an RGB `PIL.Image.Image`, turned upright by its EXIF orientation.

    A name with a colon that is no file, such as `duo:7`, may be a picture that a plugin makes.
    Transparent pixels are laid on white, 16-bit gray is scaled to 8 bits (65535 is white), palettes
    are looked up, of an animation the first frame is taken. Colors are read as sRGB, whatever the
    profile, because that is what networks are trained on.

    Raises:
        InputError: no such file (with near misses), a folder, not an image, damaged, or of a pixel
            type without a defined white.
        UnsafeFileError: more than `MAX_PIXELS` pixels, read from the header before decoding.
    """
    made = _made(os.fspath(path))
    if made is not None:
        return made
    path = Path(path)
    _check_exists(path)
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_decodable()) as image:
                _check_size(path, *image.size)
                return _upright_rgb(path, image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnsafeFileError(f"image {str(path)!r} is too large to be decoded: {error}") from error
    except (InputError, UnsafeFileError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(_unidentified(path)) from error
    # A damaged file can make a decoder raise almost anything.
    except Exception as error:
        raise InputError(
            f"image {str(path)!r} cannot be decoded ({type(error).__name__}: {error}); "
            "it is damaged or incomplete: get the file again"
        ) from error


def _made(spec: str) -> Image.Image | None:
    return default_registry().open_photo(spec) if ":" in spec and not os.path.exists(spec) else None


@cache
def _decodable() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    # A Pillow built without a codec lacks its name, and refuses names it lacks.
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_exists(path: Path) -> None:
    try:
        if path.is_file():
            return
        folder = path.is_dir()
    except OSError as error:
        raise InputError(f"image {str(path)!r} cannot be read: {error.strerror}") from error
    if folder:
        raise InputError(
            f"image {str(path)!r} is a folder; name the photos in it, for example {path}/*.jpg"
        )
    if path.exists():
        raise InputError(f"image {str(path)!r} is not a regular file")
    raise InputError(f"there is no image {str(path)!r}{_near_files(path)}")


def _near_files(path: Path) -> str:
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return f"; the folder {str(path.parent)!r} does not exist or cannot be read"
    return near(path.name, names)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnsafeFileError(
            f"image {str(path)!r} has {width} x {height} = {width * height:,} pixels, more than "
            f"the limit of {MAX_PIXELS:,} against decompression bombs; make it smaller first"
        )


def _unidentified(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"image {str(path)!r} is empty (0 bytes)"
    known = ", ".join(name for name in _decodable() if name != "MPO")
    return f"{str(path)!r} is not an image that can be opened (formats: {known})"


def _upright_rgb(path: Path, image: Image.Image) -> Image.Image:
    from PIL import Image as Pillow
    from PIL import ImageOps

    # Decoding before anything else: some formats know their real mode only afterwards.
    image.load()
    upright = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _gray_from_deep(path, upright, image.format).convert("RGB")
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        opaque = Pillow.alpha_composite(Pillow.new("RGBA", seen.size, _WHITE), seen)
        opaque.info = {k: v for k, v in upright.info.items() if k == "icc_profile"}
        return opaque.convert("RGB")
    return upright.convert("RGB")


def _gray_from_deep(path: Path, image: Image.Image, form: str | None) -> Image.Image:
    """8-bit gray of 16-bit gray; `convert` alone would clip everything above 255 to white."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and form in _AT_MOST_16_BITS)):
        raise InputError(
            f"image {str(path)!r} has {image.mode!r} pixels (32 bits), for which no value means "
            "white; convert it to 8 or 16 bits first"
        )
    return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
