"""3-D: evenly spaced slices along the first axis, side by side, each with its number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from camkit_core import Explanation
from camkit_render.colors import Mask, Pixels, Values
from camkit_render.placement import identity, place
from camkit_render.scenes import Scene
from camkit_render.text import Face
from camkit_render.views import fit, resized, stretched

_TILE = 112  # longest side of a slice, if the caller names no size
_BACKGROUND = (28, 28, 32)
_INK = (200, 200, 200)


@dataclass(frozen=True)
class _Montage:
    """Which slices are shown, and where."""

    depth: int
    shown: tuple[int, ...]
    tile: tuple[int, int]
    face: Face

    @property
    def columns(self) -> int:
        return math.ceil(math.sqrt(len(self.shown)))

    @property
    def canvas(self) -> tuple[int, int]:
        rows = math.ceil(len(self.shown) / self.columns)
        return rows * (self.tile[0] + self.face.height), self.columns * (self.tile[1] + 2)

    def corner(self, position: int) -> tuple[int, int]:
        """Top left pixel of the number of a slice; the slice is right below."""
        row, column = divmod(position, self.columns)
        return row * (self.tile[0] + self.face.height), column * (self.tile[1] + 2) + 1

    def box(self, position: int) -> tuple[slice, slice]:
        top, left = self.corner(position)
        top += self.face.height
        return slice(top, top + self.tile[0]), slice(left, left + self.tile[1])

    def lay(self, field: Tensor) -> tuple[Values, Mask]:
        values = np.zeros(self.canvas, np.float32)
        inside = np.zeros(self.canvas, np.bool_)
        for position, index in enumerate(self.shown):
            flat = field[index]
            placed, _ = place(flat, identity(flat.shape[0], flat.shape[1]), self.tile)
            values[self.box(position)] = placed.numpy()
            inside[self.box(position)] = True
        return values, inside

    def picture(self, volume: Pixels | None) -> Pixels:
        height, width = self.canvas
        image = Image.new("RGB", (width, height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        for position, index in enumerate(self.shown):
            top, left = self.corner(position)
            draw.text((left, top), str(index), fill=_INK, font=self.face.font)
        pixels = np.array(image)
        if volume is not None:
            self._fill(pixels, volume)
        return pixels

    def _fill(self, pixels: Pixels, volume: Pixels) -> None:
        for position, index in enumerate(self.shown):
            same = int((index + 0.5) * len(volume) / self.depth)  # the map may be coarser
            pixels[self.box(position)] = resized(np.ascontiguousarray(volume[same]), self.tile)


def volume_scene(explanation: Explanation, row: int, slices: int, longest: int | None) -> Scene:
    """Slices of the stretched input volume (or frames of a video)."""
    montage = _plan(tuple(explanation.maps.shape[1:]), slices, longest)
    return Scene(montage.picture(stretched(explanation, row)), montage.lay)


def slices_scene(field: Tensor, slices: int, longest: int | None) -> Scene:
    """Slices of the map alone."""
    montage = _plan(tuple(field.shape), slices, longest)
    return Scene(montage.picture(None), montage.lay)


def _plan(space: tuple[int, ...], slices: int, longest: int | None) -> _Montage:
    depth, height, width = space
    count = min(depth, slices)
    shown = tuple(((torch.arange(count) + 0.5) * depth / count).long().tolist())
    columns = math.ceil(math.sqrt(count))
    side = _TILE if longest is None else max(8, longest // columns - 2)
    return _Montage(depth, shown, fit(height, width, side), Face(min(12, max(9, side // 8))))
