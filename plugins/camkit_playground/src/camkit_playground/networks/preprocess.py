"""From a photo of any size to what the demo networks take, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from camkit_core import Geometry, InputError, Picture, Prepared
from camkit_playground.duo.tensors import MEAN, STD, normalized
from camkit_playground.duo.tiling import CELLS_KEY

SIDE = 64
"""Side of the pictures the networks were trained on."""


@dataclass(frozen=True)
class DemoPreprocess:
    """The whole photo, squeezed to 64 x 64 pixels; every cell of a mosaic keeps 64 pixels.

    Nothing is cropped, so every pixel of the photo gets its share of the map.
    """

    def __call__(self, photo: Image.Image, /) -> Prepared:
        """Inputs `[1, 3, H, W]`, the upright RGB photo and its geometry.

        Raises:
            InputError: not a PIL image, or more than 8 bits per channel.
        """
        cells = _cells(photo)
        upright = ImageOps.exif_transpose(photo).convert("RGB")
        side = SIDE * cells
        shrunk = upright.resize((side, side), Image.Resampling.BILINEAR)
        images = torch.from_numpy(np.array(shrunk))[None]
        geometry = Geometry(
            source_size=(upright.height, upright.width),
            input_size=(side, side),
            scale=(upright.height / side, upright.width / side),
            offset=(0.0, 0.0),
        )
        return Prepared(normalized(images), (Picture(upright, geometry),))

    def describe(self) -> Mapping[str, Any]:
        """Size and normalization."""
        return {"resize": [SIDE, SIDE], "per_cell": True, "mean": [MEAN] * 3, "std": [STD] * 3}


def _cells(photo: Any) -> int:
    """Cells on a side of a Duo mosaic; 1 for every other photo."""
    if not isinstance(photo, Image.Image):
        raise InputError(
            f"the demo networks expect a PIL image, got {type(photo).__name__}; "
            "use camkit.open_photo(path) or PIL.Image.fromarray(array)"
        )
    if photo.mode.startswith(("I", "F")):
        raise InputError(
            f"photo of mode {photo.mode!r} has more than 8 bits per channel, which RGB conversion "
            "would clip; scale it to 0..255 and convert it to 'L' or 'RGB' first"
        )
    cells = photo.info.get(CELLS_KEY, 1)
    return cells if cells in (1, 2) else 1
