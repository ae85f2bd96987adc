"""The map on the photo, and the map alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

from PIL import Image

from camkit_core import Explanation
from camkit_render.boxes import within
from camkit_render.labels import method_label, notices, scale_label, score_label, target_label
from camkit_render.layout import WARNING, Cell, Words, face_for, framed, sheet, side, stack, text
from camkit_render.legend import legend
from camkit_render.look import Look, listed
from camkit_render.panels import heatmap_panel, overlay_panel
from camkit_render.scale import Field, fields_of
from camkit_render.text import Face

NOTICE_LINES = 8
_NARROWEST = 240  # pixels a caption needs, also below a tiny picture


@dataclass(frozen=True, eq=False)
class Spot:
    """One image of one explanation, with its map on the scale of the call."""

    explanation: Explanation
    row: int
    field: Field


Draw: TypeAlias = Callable[[Spot, int | None], Image.Image]


class Overlay:
    """The map on the ORIGINAL photo, wherever crop and resize put the model's view.

    One image gives the photo at its own size, with a caption strip below only if there is
    something a reader must know; several give a sheet with labels. `alpha=0` is the photo, byte
    for byte. Without photos the input tensor is shown, stretched to its own range. Options are
    those of `camkit_render.look.Look`.
    """

    name: ClassVar[str] = "overlay"

    def __call__(self, explanations: Sequence[Explanation], /, **options: Any) -> Image.Image:
        """Draw all images of all explanations.

        Raises:
            OptionError: an option or its value is unknown, or the maps cannot be drawn.
            InputError: a photo does not fit its geometry.
            BudgetError: the sheet would be too large.
        """
        look = Look.read(self.name, options)

        def draw(spot: Spot, longest: int | None) -> Image.Image:
            panel = overlay_panel(spot.explanation, spot.row, spot.field, look, longest)
            return _with_profile(panel, spot) if longest is None else panel

        return _picture(spots(listed(self.name, explanations), look), look, draw)


class HeatMap:
    """The map alone at its own resolution, fully opaque: `alpha` and `outline` change nothing.

    One image gives one picture, several a sheet with labels. Options are those of
    `camkit_render.look.Look`.
    """

    name: ClassVar[str] = "heatmap"

    def __call__(self, explanations: Sequence[Explanation], /, **options: Any) -> Image.Image:
        """Draw all images of all explanations.

        Raises:
            OptionError: an option or its value is unknown, or the maps cannot be drawn.
            BudgetError: the sheet would be too large.
        """
        look = Look.read(self.name, options)

        def draw(spot: Spot, longest: int | None) -> Image.Image:
            return heatmap_panel(spot.field, look, longest)

        return _picture(spots(listed(self.name, explanations), look), look, draw)


def spots(explanations: Sequence[Explanation], look: Look) -> list[Spot]:
    """Every image of every explanation, in order."""
    every = [
        Spot(explanation, row, field)
        for explanation, fields in zip(
            explanations, fields_of(explanations, look.scale), strict=True
        )
        for row, field in enumerate(fields)
    ]
    if look.within == "image":
        return every
    return [replace(spot, field=within(spot.explanation, spot.row, spot.field)) for spot in every]


def warnings(spot: Spot, look: Look) -> tuple[Words, ...]:
    """The notices of a spot, in the color of warnings."""
    if not look.captions:
        return ()
    found = notices(spot.explanation, spot.row, spot.field)
    return tuple(Words(notice, WARNING, NOTICE_LINES) for notice in found)


def _picture(every: list[Spot], look: Look, draw: Draw) -> Image.Image:
    if len(every) == 1 and not look.title:
        return _single(every[0], look, draw)
    size = side(look, len(every))
    face = face_for(size, look)
    among = [spot.explanation for spot in every]
    cells = [Cell(draw(spot, size), _words(spot, among, look)) for spot in every]
    across = min(len(cells), look.columns or math.ceil(math.sqrt(len(cells))))
    return sheet(
        [cells[start : start + across] for start in range(0, len(cells), across)],
        face,
        title=look.title or "",
        legend=legend([spot.field for spot in every], look, face),
    )


def _single(spot: Spot, look: Look, draw: Draw) -> Image.Image:
    panel = draw(spot, look.size)
    words = warnings(spot, look)
    if not words:
        return panel
    face = Face(max(12, min(48, round(panel.width / 40))), look.font)
    caption = framed(text(words, max(panel.width, _NARROWEST) - 20, face))
    out = stack([panel, caption], gap=0)
    out.info.update(panel.info)
    return out


def _words(spot: Spot, among: Sequence[Explanation], look: Look) -> tuple[Words, ...]:
    explanation, row = spot.explanation, spot.row
    lines = [
        method_label(explanation, among),
        target_label(explanation, row),
        score_label(explanation, row),
        scale_label(spot.field, look.scale),
    ]
    return (*(Words(line) for line in lines if line), *warnings(spot, look))


def _with_profile(panel: Image.Image, spot: Spot) -> Image.Image:
    """Keep the photo's RGB color profile, without which wide-gamut photos look pale."""
    pictures = spot.explanation.pictures
    profile = pictures[spot.row].photo.info.get("icc_profile") if pictures else None
    if isinstance(profile, bytes) and profile[16:20] == b"RGB ":
        panel.info["icc_profile"] = profile
    return panel
