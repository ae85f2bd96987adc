"""1-D: the signal as lines on a dark strip, colored where it mattered."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from camkit_core import Explanation
from camkit_render.colors import Mask, Pixels, Values
from camkit_render.placement import resample
from camkit_render.scenes import Scene
from camkit_render.views import channels, finite_range

_WIDTH = (480, 1200)  # least and most pixels across, if the caller names none
_BELOW = (28, 28, 32)
_LINE = (235, 235, 235)
_MANY = 8  # more channels than this are drawn as their mean


def signal_scene(explanation: Explanation, row: int, longest: int | None) -> Scene:
    """Lines of the channels over time; all on one vertical scale, finite range to full height."""
    length = explanation.maps.shape[1]
    width = longest or min(max(length, _WIDTH[0]), _WIDTH[1])
    canvas = (max(32, width // 4), width)
    return Scene(_plot(channels(explanation, row), canvas), lambda field: _bands(field, canvas))


def band_scene(field: Tensor, longest: int | None) -> Scene:
    """The colored strip alone."""
    width = longest or min(max(len(field), _WIDTH[0]), _WIDTH[1])
    canvas = (max(16, width // 12), width)
    return Scene(np.zeros((*canvas, 3), np.uint8), lambda values: _bands(values, canvas))


def _bands(field: Tensor, canvas: tuple[int, int]) -> tuple[Values, Mask]:
    length = len(field)
    across = resample(field, 0, canvas[1], length / canvas[1], 0.0, float(length))
    return np.tile(across.numpy(), (canvas[0], 1)), np.ones(canvas, np.bool_)


def _plot(signal: Tensor, canvas: tuple[int, int]) -> Pixels:
    height, width = canvas
    image = Image.new("RGB", (width, height), _BELOW)
    draw = ImageDraw.Draw(image)
    lines = signal if len(signal) <= _MANY else signal.mean(0, keepdim=True)
    low, high = finite_range(lines)
    margin = height * 0.08
    across = (np.arange(lines.shape[1]) + 0.5) * width / lines.shape[1]
    for line in lines:
        unit = (line.nan_to_num(low, high, low) - low) / (high - low or 1.0)
        down = height - margin - unit.numpy() * (height - 2 * margin)
        draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=_LINE, width=1)
    return np.asarray(image)
