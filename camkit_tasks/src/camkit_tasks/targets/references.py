"""What an image is compared with: photos, and texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from camkit_core import TargetError, default_registry, near
from camkit_tasks.words import one_line

Photo = str | os.PathLike[str] | Image.Image

VERSUS = "-vs-"


@dataclass(frozen=True)
class Text:
    """A text, and the model's own way to embed it."""

    written: str
    encode: Callable[[Sequence[str]], Tensor]

    def embedded(self) -> Tensor:
        """`[1, D]`, without a gradient."""
        return self.encode([self.written]).detach()


def split_references(written: str) -> tuple[list[str], list[str]]:
    """Files before and after `-vs-`, separated by commas; names of existing files stay whole."""
    if _is_file(written) or VERSUS not in written:
        return _several(written), []
    to, _, against = written.partition(VERSUS)
    return _several(to), _several(against)


def open_reference(photo: Photo) -> Image.Image:
    """A photo from a file, from a plugin's specification, or as it is.

    Raises:
        TargetError: no such file, or not a photo.
    """
    if isinstance(photo, Image.Image):
        return photo
    path = Path(photo).expanduser()
    if not path.is_file():
        made = default_registry().open_photo(str(photo)) if ":" in str(photo) else None
        if made is not None:
            return made
        names = [one.name for one in path.parent.glob("*") if one.is_file()]
        raise TargetError(f"reference {str(photo)!r} does not exist{near(path.name, names)}")
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise TargetError(
            f"reference {str(photo)!r} cannot be read as a photo ({one_line(error)})"
        ) from error


def _several(written: str) -> list[str]:
    if _is_file(written.strip()):
        return [written.strip()]
    found = [part.strip() for part in written.split(",") if part.strip()]
    if not found:
        raise TargetError(f"{written!r} names no photo; give one, e.g. like:ref.jpg")
    return found


def _is_file(written: str) -> bool:
    return Path(written).expanduser().is_file()
