"""Files that are complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from camkit_core import OptionError


def make(folder: Path) -> None:
    """Make a folder.

    Raises:
        OptionError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"cannot make the folder {str(folder)!r}: {error.strerror}; choose another with --out"
        ) from error


def save(picture: Image.Image, path: Path) -> Path:
    """Write a picture."""
    with draft(path) as unfinished:
        picture.save(unfinished, format="PNG")
    return path


def write(text: str, path: Path) -> Path:
    """Write text, with the same line ends everywhere."""
    with draft(path) as unfinished:
        unfinished.write_text(text, "utf-8", newline="\n")
    return path


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the final name only when it is complete."""
    unfinished = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
