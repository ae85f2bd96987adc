"""The color bar: which color means what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from camkit_render.colors import colors_of
from camkit_render.layout import Words, beside, stack, text
from camkit_render.look import Look
from camkit_render.scale import Field
from camkit_render.text import Face

_BAR = 7  # length in font sizes


def legend(fields: Sequence[Field], look: Look, face: Face) -> Image.Image:
    """One bar for the maps without negative values and one for those with, as they occur."""
    kinds = sorted({field.signed for field in fields})
    return stack([_bar(signed, look, face) for signed in kinds], gap=2)


def _bar(signed: bool, look: Look, face: Face) -> Image.Image:
    size = (face.size * _BAR, face.size)
    values = np.linspace(-1.0 if signed else 0.0, 1.0, size[0], dtype=np.float32)
    bar = Image.fromarray(colors_of(look, signed).of(np.tile(values, (size[1], 1))))
    left, right = _words(signed, look)
    return beside([_tight(left, face), bar, _tight(right, face)])


def _words(signed: bool, look: Look) -> tuple[str, str]:
    own = look.scale == "own"
    most = "largest value of each map" if own else "largest raw value of the method"
    return (f"- {most}", f"+ {most}") if signed else ("0", most)


def _tight(words: str, face: Face) -> Image.Image:
    return text([Words(words, lines=1)], face.width(words), face)
