"""Sheets: blocks of words and pictures, stacked and set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from PIL import Image, ImageDraw

from camkit_core import BudgetError
from camkit_render.look import Look
from camkit_render.text import Face

PAPER = (255, 255, 255)
INK = (32, 32, 36)
WARNING = (160, 60, 0)
GAP = 10
LARGEST = 80_000_000  # pixels of a sheet; picture readers suspect an attack behind larger ones
_USUAL, _LEAST = 224, 64  # longest side of a picture on a sheet, if the caller names none
_NARROWEST = 7  # font sizes across: a column is never narrower, so that words fit


@dataclass(frozen=True)
class Words:
    """A paragraph below or above a picture."""

    text: str
    ink: tuple[int, int, int] = INK
    lines: int = 3


@dataclass(frozen=True)
class Cell:
    """A picture and the words below it; an empty one keeps its place."""

    image: Image.Image | None = None
    words: tuple[Words, ...] = ()


def side(look: Look, pictures: int) -> int:
    """Longest side of one of that many pictures on a sheet.

    Raises:
        BudgetError: the sheet would be too large to open.
    """
    size = look.size or _USUAL
    while look.size is None and size > _LEAST and pictures * size * size * 2 > LARGEST:
        size -= 16
    if pictures * size * size > LARGEST:
        raise BudgetError(
            f"a sheet of {pictures} pictures of {size} pixels would have more than "
            f"{LARGEST // 1_000_000} megapixels, which viewers refuse to open; draw fewer "
            "explanations at once or choose a smaller size="
        )
    return size


def face_for(size: int, look: Look) -> Face:
    """Label font that goes with pictures of that size."""
    return Face(max(12, min(18, round(size / 17))), look.font)


def sheet(
    rows: Sequence[Sequence[Cell]],
    face: Face,
    *,
    heads: Sequence[Sequence[Sequence[Words]]] = (),
    title: str = "",
    legend: Image.Image | None = None,
) -> Image.Image:
    """Cells in rows and columns, with a title strip and a legend.

    `heads[i]` are the words above the cells of row `i`; rows without any follow the row above.
    """
    widths = _widths(rows, face)
    body: list[Image.Image] = []
    for row, above in zip_longest(rows, heads, fillvalue=()):
        body += _line(row, above, widths, face, first=not body)
    if legend:
        body.append(legend)
    width = max(block.width for block in body)
    if title:
        large = Face(round(face.size * 1.3), face.path)
        body.insert(0, text([Words(title, lines=2)], width, large))
    return framed(stack(body))


def _line(
    row: Sequence[Cell],
    heads: Sequence[Sequence[Words]],
    widths: Sequence[int],
    face: Face,
    *,
    first: bool,
) -> list[Image.Image]:
    cells = beside([_cell(cell, width, face) for cell, width in zip(row, widths, strict=False)])
    if not heads:
        return [cells]
    above = zip(heads, widths, strict=False)
    block = beside([text(words, width, face) for words, width in above], bottom=True)
    # Twice the gap, or the heads would seem to belong to the pictures above them.
    space = [] if first else [Image.new("RGB", (block.width, GAP), PAPER)]
    return [*space, stack([block, cells], gap=GAP // 2)]


def _widths(rows: Sequence[Sequence[Cell]], face: Face) -> list[int]:
    columns = max(len(row) for row in rows)
    widths = [_NARROWEST * face.size] * columns
    for row in rows:
        for column, cell in enumerate(row):
            if cell.image:
                widths[column] = max(widths[column], cell.image.width)
    return widths


def _cell(cell: Cell, width: int, face: Face) -> Image.Image:
    blocks = [text(cell.words, width, face)] if cell.words else []
    if cell.image:
        blocks.insert(0, cell.image)
    block = stack(blocks, gap=4)
    out = Image.new("RGB", (width, block.height), PAPER)
    out.paste(block, (0, 0))
    return out


def text(words: Sequence[Words], width: int, face: Face) -> Image.Image:
    """Paragraphs wrapped to `width`."""
    lines = [
        (line, paragraph.ink)
        for paragraph in words
        for line in face.wrap(paragraph.text, width, paragraph.lines)
    ]
    out = Image.new("RGB", (width, face.height * len(lines)), PAPER)
    draw = ImageDraw.Draw(out)
    for position, (line, ink) in enumerate(lines):
        draw.text((0, position * face.height), line, fill=ink, font=face.font)
    return out


def stack(blocks: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Blocks below one another, left aligned."""
    width = max((block.width for block in blocks), default=0)
    height = sum(block.height + gap for block in blocks) - gap if blocks else 0
    out = Image.new("RGB", (width, height), PAPER)
    top = 0
    for block in blocks:
        out.paste(block, (0, top))
        top += block.height + gap
    return out


def beside(blocks: Sequence[Image.Image], *, bottom: bool = False) -> Image.Image:
    """Blocks next to one another, top or bottom aligned."""
    height = max(block.height for block in blocks)
    out = Image.new("RGB", (sum(block.width + GAP for block in blocks) - GAP, height), PAPER)
    left = 0
    for block in blocks:
        out.paste(block, (left, height - block.height if bottom else 0))
        left += block.width + GAP
    return out


def framed(block: Image.Image) -> Image.Image:
    """The block with paper around it."""
    out = Image.new("RGB", (block.width + 2 * GAP, block.height + 2 * GAP), PAPER)
    out.paste(block, (GAP, GAP))
    return out
