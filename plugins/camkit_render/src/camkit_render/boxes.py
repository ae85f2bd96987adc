"""The boxes of a detection: their outlines, and the map seen through them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from camkit_core import Explanation, OptionError
from camkit_render.colors import Pixels
from camkit_render.labels import target_label
from camkit_render.look import Look
from camkit_render.scale import Field
from camkit_render.text import Face

Corner: TypeAlias = Callable[[float, float], tuple[float, float]]
"""`(x, y)` in pixels of the model's input to the same place on a canvas."""

_LIGHT, _DARK = (255, 255, 255), (0, 0, 0)
_LARGEST, _SMALLEST = 32, 10  # pixels of a label's font


def boxes_of(explanation: Explanation, row: int) -> Tensor | None:
    """Boxes `[P, 4]` of one image, in pixels of the input; None if the target has none at all."""
    boxes = explanation.target.boxes
    if boxes is None:
        return None
    known = boxes[row].detach().to("cpu", torch.float64)
    return known[known.isfinite().all(1)]


def within(explanation: Explanation, row: int, field: Field) -> Field:
    """A view of a map in which every box uses the full range, and nothing is outside of them.

    In a box values are moved to [0, 1] by the smallest and largest there, those of a signed map
    divided by the largest magnitude there; where boxes overlap the stronger value counts. The
    explanation itself stays as it is.

    Raises:
        OptionError: the target has no boxes, or the map is not a picture.
    """
    boxes = boxes_of(explanation, row)
    if boxes is None or field.values.ndim != 2:
        raise OptionError(
            f"within='box' shows maps inside the boxes of a detection, but the target "
            f"{target_label(explanation, row)!r} has none; use within='image'"
        )
    shown = torch.zeros_like(field.values)
    for box in boxes.tolist():
        place = _pixels(box, field.values.shape)
        inside = _stretched(field.values[place], signed=field.signed)
        shown[place] = torch.where(inside.abs() > shown[place].abs(), inside, shown[place])
    return replace(field, values=shown)


def _pixels(box: list[float], size: torch.Size) -> tuple[slice, slice]:
    """Pixels whose centers are in a box, at least one of each axis."""
    found = []
    for start, end, length in ((box[1], box[3], size[0]), (box[0], box[2], size[1])):
        first = min(max(math.ceil(start - 0.5), 0), length - 1)
        found.append(slice(first, max(min(math.ceil(end - 0.5), length), first + 1)))
    return found[0], found[1]


def _stretched(values: Tensor, *, signed: bool) -> Tensor:
    low = torch.zeros(()) if signed else values.min()
    span = (values - low).abs().max()
    noise = 64 * torch.finfo(values.dtype).eps * values.abs().max()
    return (values - low) / span if span > noise else torch.zeros_like(values)


def draw_boxes(
    pixels: Pixels, explanation: Explanation, row: int, corner: Corner, look: Look
) -> Pixels:
    """Outlines, and the label of a single box, on a picture; the same pixels if there are none.

    Lines are white with a dark edge, so that they show on any photo.
    """
    boxes = boxes_of(explanation, row)
    if boxes is None or not len(boxes):
        return pixels
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    thick = max(1, round(max(image.size) / 300))
    for x0, y0, x1, y1 in boxes.tolist():
        left, top = corner(x0, y0)
        right, bottom = corner(x1, y1)
        _frame(draw, (left, top, right, bottom), thick)
        if len(boxes) == 1:
            _name(draw, image.size, (left, top), _short(target_label(explanation, row)), look)
    return np.asarray(image)


def _frame(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], thick: int) -> None:
    left, top, right, bottom = (round(value) for value in box)
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    for shrink, ink, width in ((-1, _DARK, thick + 2), (0, _LIGHT, thick)):
        frame = (left + shrink, top + shrink, right - shrink, bottom - shrink)
        draw.rectangle(frame, outline=ink, width=width)


def _short(label: str) -> str:
    """A label without the place, which the box shows."""
    return re.sub(r" at [-0-9,]+", "", label)


def _name(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    text: str,
    look: Look,
) -> None:
    """The label above the box, or inside it where there is no room above."""
    face = Face(max(_SMALLEST, min(_LARGEST, round(max(size) / 30))), look.font)
    lines = face.wrap(text, size[0] - 4, 1)
    if not look.captions or not lines or size[1] < 2 * face.height:
        return
    wide, high = face.width(lines[0]) + 4, face.height
    left = min(max(0, round(corner[0])), max(0, size[0] - wide))
    top = round(corner[1]) - high
    top = top if top >= 0 else min(max(0, round(corner[1])), size[1] - high)
    draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=_DARK)
    draw.text((left + 2, top), lines[0], fill=_LIGHT, font=face.font)
