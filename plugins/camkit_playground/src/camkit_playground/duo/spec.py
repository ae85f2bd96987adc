"""`duo:7`, `duo:7@tag`, `duo:7@128`, `duo:7@grid`: Duo pictures wherever a photo is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from camkit_core import InputError, near
from camkit_playground.duo.drawing import scene
from camkit_playground.duo.tiling import mosaic

if TYPE_CHECKING:
    from PIL.Image import Image

_WORDS = ("tag", "grid")
_FORM = "duo:SEED, with @tag, @grid or @SIZE behind it (duo:7, duo:7@tag, duo:7@128, duo:7@grid)"
_DIGITS = 18


def open_spec(spec: str) -> Image | None:
    """The picture of `duo:SEED[@...]` as an RGB photo, or None for another kind of name.

    Raises:
        InputError: the seed or an option is not understood, or options contradict each other.
    """
    family, colon, rest = spec.partition(":")
    if family != "duo" or not colon:
        return None
    seed, *options = (part.strip() for part in rest.split("@"))
    if not _is_number(seed):
        raise InputError(
            f"picture {spec!r}: {seed!r} is not a seed (0, 1, 2, ...); expected {_FORM}"
        )
    words, size = _read(spec, options)
    if "grid" in words:
        return mosaic(int(seed), size=size).photo()
    return scene(int(seed), size=size, tag="tag" in words).photo()


def _read(spec: str, options: Sequence[str]) -> tuple[frozenset[str], int]:
    """The words among the options, and the size."""
    sizes = [int(option) for option in options if _is_number(option)]
    words = [option for option in options if not _is_number(option)]
    for word in words:
        if word not in _WORDS:
            hint = near(word, _WORDS) or f"; expected {_FORM}"
            raise InputError(f"picture {spec!r} has an unknown option {word!r}{hint}")
    if len(sizes) > 1 or len(set(words)) < len(words):
        raise InputError(f"picture {spec!r} gives an option twice; expected {_FORM}")
    if len(words) > 1:
        raise InputError(f"picture {spec!r}: mosaics have no tag; leave out @tag or @grid")
    return frozenset(words), sizes[0] if sizes else 64


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
