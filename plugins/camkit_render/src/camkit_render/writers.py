"""One explanation, one file. Every file says where it came from.

All writers build the whole file in memory, then write and rename (`camkit_render.files`), and the
same explanation gives the same bytes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import torch
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save
from torch import Tensor

from camkit_core import Explanation, OptionError, near
from camkit_render.files import write_whole
from camkit_render.grid import Grid
from camkit_render.overlay import HeatMap, Overlay
from camkit_render.record import record, to_json

TAG = "camkit"
"""Name of the PNG text chunk and of the safetensors metadata that hold the record."""
RAW = "raw/"
_RENDERERS = {kind.name: kind for kind in (Overlay, HeatMap, Grid)}


class PngWriter:
    """A picture of the explanation, with its record as JSON in the text chunk `camkit`.

    Signals become a strip, volumes a montage of slices. Options are those of
    `camkit_render.look.Look`, and `renderer`: `"overlay"` (default), `"heatmap"` or `"grid"`.
    """

    name: ClassVar[str] = "png"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        """Draw, then write completely or not at all.

        Raises:
            OptionError: an unknown option, or maps that cannot be drawn.
        """
        renderer = options.pop("renderer", Overlay.name)
        if renderer not in _RENDERERS:
            raise OptionError(
                f"png has no renderer {renderer!r}{near(str(renderer), _RENDERERS)} "
                f"(it has {', '.join(_RENDERERS)})"
            )
        image = _RENDERERS[renderer]()([explanation], **options)
        note = PngInfo()
        note.add_text(TAG, to_json(record(explanation)))
        stream = io.BytesIO()
        image.save(stream, format="PNG", pnginfo=note)
        write_whole(path, stream.getvalue())


class NpzWriter:
    """Arrays for NumPy, readable with `allow_pickle=False`.

    Keys: `maps` `[N, *S]`, `raw/<layer>` `[N, *S_layer]`, `score` `[N]`, `provenance` (the record
    as a JSON string). bfloat16, which NumPy lacks, becomes float32. Characters of layer names that
    do not belong in a file name are percent-encoded.
    """

    name: ClassVar[str] = "npz"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        """Write completely or not at all."""
        _no_options(self.name, options)
        arrays: dict[str, Any] = {
            name: _array(value) for name, value in tensors(explanation).items()
        }
        arrays["provenance"] = np.array(to_json(record(explanation)))
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_whole(path, stream.getvalue())


class SafetensorsWriter:
    """Tensors in their own dtype: `maps`, `raw/<layer>`, `score`; the record is metadata."""

    name: ClassVar[str] = "safetensors"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        """Write completely or not at all."""
        _no_options(self.name, options)
        kept = {name: value.clone() for name, value in tensors(explanation).items()}
        write_whole(path, save(kept, metadata={TAG: to_json(record(explanation))}))


class JsonWriter:
    """The record alone: provenance, target, scores, issues, ranges and geometry, no maps."""

    name: ClassVar[str] = "json"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        """Write completely or not at all."""
        _no_options(self.name, options)
        write_whole(path, (to_json(record(explanation), indent=2) + "\n").encode("ascii"))


def tensors(explanation: Explanation) -> dict[str, Tensor]:
    """What the array formats hold: display maps, scores, and raw maps at native resolution."""
    found = {"maps": explanation.maps, "score": explanation.score}
    found |= {RAW + quote(layer, safe="#@:,+ "): raw for layer, raw in explanation.raw.items()}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any]
    array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array


def _no_options(writer: str, options: dict[str, Any]) -> None:
    if options:
        raise OptionError(
            f"writer {writer} has no option {next(iter(options))!r}: it writes values as they are; "
            "drawing options go with .png"
        )
