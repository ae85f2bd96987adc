"""Labels: any text becomes something that can be drawn inside its box."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

from camkit_core import OptionError

_LONGEST = 300  # characters of one label
_ASCII = str.maketrans(
    {"\u00d7": "x", "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2192": "->"}
    | {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."}
)


@dataclass(frozen=True)
class Face:
    """A font in one size. Sizes are pixels."""

    size: int
    path: str | None = None

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        """The loaded font."""
        return _load(self.size, self.path)

    @property
    def height(self) -> int:
        """Distance of two lines."""
        return round(sum(self.font.getmetrics()) * 1.1)

    def width(self, text: str) -> int:
        """Pixels that `text` takes on one line."""
        return round(self.font.getlength(text) + 0.5)

    def clean(self, text: str) -> str:
        r"""One line of characters the font has.

        White space is collapsed; control, direction and other invisible characters, and those the
        font lacks, are written as `\uXXXX`; accents the font lacks are dropped.
        """
        short = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
        one_line = unicodedata.normalize("NFC", " ".join(short.split()))
        return "".join(self._drawable(character) for character in one_line)

    def _drawable(self, character: str) -> str:
        if character == " " or (_visible(character) and _has(self.size, self.path, character)):
            return character
        known = character.translate(_ASCII)
        base, *marks = list(unicodedata.normalize("NFKD", character))
        if marks and all(unicodedata.combining(mark) for mark in marks):
            known = base
        if known != character and known.isascii():
            return known
        return f"\\u{ord(character):04x}"

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """At most `lines` lines no wider than `width`; what does not fit ends in `...`."""
        rest = self.clean(text)
        out: list[str] = []
        while rest:
            if self.width(rest) <= width:
                return [*out, rest]
            if len(out) == lines - 1:
                return [*out, rest[: self._fit(rest, width - self.width("..."))] + "..."]
            cut = max(1, self._fit(rest, width))
            space = rest.rfind(" ", 1, cut + 1)
            cut = space if space > 0 else cut
            out.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        return out

    def _fit(self, text: str, width: int) -> int:
        """How many leading characters fit."""
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle]) <= width:
                low = middle
            else:
                high = middle - 1
        return low


def _visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"


@lru_cache(maxsize=16)
def _load(size: int, path: str | None) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)
    except OSError as error:
        raise OptionError(
            f"font {path!r} cannot be read ({error}); give a TrueType file"
        ) from error
    if path is None and isinstance(font, ImageFont.FreeTypeFont):
        # One layout with and without the optional text shaping library.
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OptionError("this Pillow was built without FreeType, so it cannot draw labels")
    return font


@lru_cache(maxsize=4096)
def _has(size: int, path: str | None, character: str) -> bool:
    font = _load(size, path)
    missing = font.getmask("\uffff")
    mask = font.getmask(character)
    return mask.size != missing.size or bytes(mask) != bytes(missing)
