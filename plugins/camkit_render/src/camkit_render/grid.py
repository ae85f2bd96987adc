"""Side by side: images and targets down, methods across, the input first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from PIL import Image

from camkit_core import Explanation
from camkit_render.labels import (
    layers_label,
    method_label,
    scale_label,
    score_label,
    target_label,
)
from camkit_render.layout import Cell, Words, face_for, sheet, side
from camkit_render.legend import legend
from camkit_render.look import Look, listed
from camkit_render.overlay import Spot, spots, warnings
from camkit_render.panels import input_panel, overlay_panel
from camkit_render.scale import family

_WIDEST = 7  # pictures of a usual size that fit side by side on a screen, 1600 pixels
T = TypeVar("T")


class Grid:
    """All explanations side by side, as overlays on the original photos.

    A row is one image and one target, a column one method (with these parameters at these
    layers); the first column shows the photo, or the stretched input where there is none. A
    single row goes on in the next line after `columns` pictures, each line with its own heads.
    Images are told apart by their input tensors, so explanations of different calls line up.
    Options are those of `camkit_render.look.Look`.
    """

    name: ClassVar[str] = "grid"

    def __call__(self, explanations: Sequence[Explanation], /, **options: Any) -> Image.Image:
        """Draw all images of all explanations.

        Raises:
            OptionError: an option or its value is unknown, or the maps cannot be drawn.
            InputError: a photo does not fit its geometry.
            BudgetError: the sheet would be too large.
        """
        look = Look.read(self.name, options)
        given = listed(self.name, explanations)
        table = _arrange(spots(given, look))
        size = side(look, len(table.rows) * (len(table.columns) + 1))
        every = [spot for row in table.rows for spot in row if spot]
        rows, heads = [_row(row, look, size) for row in table.rows], [_heads(table, look)]
        if len(rows) == 1:
            across = look.columns or _across(len(rows[0]))
            rows, heads = _wrapped(rows[0], across), _wrapped(heads[0], across)
        return sheet(
            rows,
            face_for(size, look),
            heads=heads,
            title=_title(given, look) if look.title is None else look.title,
            legend=legend([spot.field for spot in every], look, face_for(size, look)),
        )


def _across(pictures: int) -> int:
    """Pictures per line, such that all lines are about equally long."""
    return math.ceil(pictures / math.ceil(pictures / _WIDEST))


def _wrapped(items: list[T], across: int) -> list[list[T]]:
    return [items[start : start + across] for start in range(0, len(items), across)]


@dataclass(frozen=True)
class _Table:
    columns: list[Explanation]  # the first explanation of each
    rows: list[list[Spot | None]]


def _arrange(every: Sequence[Spot]) -> _Table:
    columns: dict[str, int] = {}
    images: dict[str, int] = {}
    targets: dict[tuple[str, str], int] = {}
    cells: dict[tuple[int, int, int], dict[int, Spot]] = {}
    for spot in every:
        column = columns.setdefault(family(spot.explanation), len(columns))
        image = images.setdefault(_fingerprint(spot), len(images))
        what = (spot.explanation.target.kind, target_label(spot.explanation, spot.row))
        target = targets.setdefault(what, len(targets))
        copy = 0  # the same thing twice (two models, say) takes a row of its own
        while column in cells.setdefault((image, target, copy), {}):
            copy += 1
        cells[image, target, copy][column] = spot
    first = {family(spot.explanation): spot.explanation for spot in reversed(every)}
    return _Table(
        [first[name] for name in columns],
        [[cells[key].get(column) for column in range(len(columns))] for key in sorted(cells)],
    )


def _fingerprint(spot: Spot) -> str:
    values = spot.explanation.inputs[spot.row].detach().cpu().contiguous().reshape(-1)
    digest = hashlib.blake2b(values.view(torch.uint8).numpy().tobytes(), digest_size=16)
    return f"{list(spot.explanation.inputs.shape[1:])} {values.dtype} {digest.hexdigest()}"


def _row(row: list[Spot | None], look: Look, size: int) -> list[Cell]:
    known = next(spot for spot in row if spot)
    score = score_label(known.explanation, known.row)
    first = Cell(
        input_panel(known.explanation, known.row, look, size),
        (Words(target_label(known.explanation, known.row)), Words(score)),
    )
    return [first, *(_cell(spot, look, size, score) if spot else Cell() for spot in row)]


def _cell(spot: Spot, look: Look, size: int, score: str) -> Cell:
    own = score_label(spot.explanation, spot.row)
    different = (Words(own),) if own != score else ()
    panel = overlay_panel(spot.explanation, spot.row, spot.field, look, size)
    return Cell(panel, (*different, *warnings(spot, look)))


def _heads(table: _Table, look: Look) -> list[list[Words]]:
    photos = {bool(spot.explanation.pictures) for row in table.rows for spot in row if spot}
    first = "photo" if photos == {True} else "input, contrast stretched"
    heads = [[Words(first if len(photos) == 1 else "input")]]
    for column, explanation in enumerate(table.columns):
        spot = next(spot for row in table.rows if (spot := row[column]))
        lines = [method_label(explanation, table.columns), scale_label(spot.field, look.scale)]
        heads.append([Words(line) for line in lines if line])
    return heads


def _title(explanations: Sequence[Explanation], look: Look) -> str:
    layers = dict.fromkeys(layers_label(explanation) for explanation in explanations)
    where = f"at {next(iter(layers))}" if len(layers) == 1 else "at several layers"
    scale = "each map on its own scale" if look.scale == "own" else "one scale per method"
    return f"Explanations {where}, {scale}"
