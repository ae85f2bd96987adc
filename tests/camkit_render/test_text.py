"""Any label can be drawn, inside its box."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camkit_core import OptionError
from camkit_render.layout import Words, text
from camkit_render.text import Face

FACE = Face(13)
HOSTILE = "<b>\x00\x1b[31m\u202eevil\u200b\ud800\n\n\t\u732b cafe\u0301 " + "W" * 400


@settings(max_examples=150, deadline=None)
@given(label=st.text(st.characters(), max_size=400), width=st.integers(60, 400))
def test_every_line_fits_and_is_drawable(label, width):
    lines = FACE.wrap(label, width, 3)
    assert len(lines) <= 3
    for line in lines:
        assert FACE.width(line) <= width
        assert all(unicodedata.category(character)[0] != "C" for character in line)


def test_hostile_label_is_shown_as_what_it_is():
    shown = FACE.clean(HOSTILE)
    assert shown.startswith("<b>\\u0000\\u001b[31m\\u202eevil\\u200b\\ud800 \\u732b cafe W")
    assert len(shown) < 400
    image = np.array(text([Words(HOSTILE, lines=2)], 150, FACE))
    assert image.shape == (2 * FACE.height, 150, 3)
    assert (image < 128).any()


def test_invisible_characters_are_written_out_even_if_the_font_has_them(monkeypatch):
    monkeypatch.setattr("camkit_render.text._has", lambda *_: True)
    assert FACE.clean("a\u202eb\u200bc\ud800\u732b") == "a\\u202eb\\u200bc\\ud800\u732b"


def test_what_fits_is_kept_whole():
    label = "the quick brown fox jumps over the lazy dog again and again"
    lines = FACE.wrap(label, 120, 9)
    assert len(lines) > 2
    assert " ".join(lines) == label
    assert FACE.wrap("short", 120, 1) == ["short"]
    assert FACE.wrap("", 120, 1) == []


def test_what_does_not_fit_ends_in_dots():
    lines = FACE.wrap("word " * 100, 120, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("...")


def test_typography_becomes_ascii_and_accents_are_dropped():
    assert FACE.clean("3\u00d73 na\u00efve \u2192 \u2212 1") == "3x3 naive -> - 1"


def test_different_labels_look_different():
    images = [np.array(text([Words(label)], 150, FACE)) for label in ("tabby", "tiger")]
    assert (images[0] != images[1]).any()


def test_letters_have_the_asked_size():
    heights = []
    for size in (12, 24, 48):
        image = np.array(text([Words("H")], 100, Face(size))).min(2) < 128
        rows = np.flatnonzero(image.any(1))
        heights.append(rows[-1] - rows[0] + 1)
    assert 0.6 * 24 < heights[1] < 0.85 * 24
    assert heights[2] == pytest.approx(4 * heights[0], abs=3)


def test_an_unreadable_font_is_an_error(tmp_path):
    broken = tmp_path / "font.ttf"
    broken.write_bytes(b"not a font")
    with pytest.raises(OptionError, match=r"font .*font\.ttf"):
        Face(13, str(broken)).clean("x")
