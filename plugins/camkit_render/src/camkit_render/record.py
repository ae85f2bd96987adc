"""What a file says about the explanation in it: one JSON document, the same for every format.

JSON has no NaN or infinity: such numbers are written as the strings `"NaN"`, `"Infinity"` and
`"-Infinity"`, which `float()` understands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from camkit_core import Explanation

FORMAT = "camkit-explanation"
VERSION = 1
_SMALL = 64  # elements up to which a tensor among the parameters is written out


def record(explanation: Explanation) -> dict[str, Any]:
    """Provenance, target, scores, issues, ranges and geometry as plain containers."""
    target = explanation.target
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "provenance": plain(explanation.provenance),
        "target": {
            "kind": target.kind,
            "label": target.label,
            "labels": list(target.labels),
            "classes": None if target.classes is None else target.classes.tolist(),
            "differentiable": target.differentiable,
            "boxes": None if target.boxes is None else plain(target.boxes.tolist()),
        },
        "score": _numbers(explanation.score),
        "issues": plain(explanation.issues),
        "maps_shape": list(explanation.maps.shape),
        "images": [_ranges(explanation, row) for row in range(len(explanation))],
        "geometry": [plain(picture.geometry) for picture in explanation.pictures],
    }


def to_json(document: Mapping[str, Any], *, indent: int | None = None) -> str:
    """ASCII JSON with sorted keys: the same document gives the same bytes."""
    return json.dumps(document, indent=indent, sort_keys=True, allow_nan=False, ensure_ascii=True)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it.

    What has no JSON form is named by its type, never by its `repr`: addresses in memory would
    make two files of the same run differ.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    return _object(value)


def _object(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, PurePath | torch.dtype | torch.device):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "model_dump"):  # a pydantic model, such as the method inside a wrapper
        named = {name: getattr(value, name) for name in type(value).model_fields}
        return {"type": _kind(type(value)), **plain(named)}
    return _kind(value if isinstance(value, type) else type(value))


def _kind(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _tensor(value: Tensor) -> Any:
    if value.numel() <= _SMALL:
        return plain(value.tolist())
    return f"tensor {list(value.shape)} {value.dtype}"


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(values: Tensor) -> list[float | str]:
    return [_number(value) for value in values.detach().to(torch.float64).reshape(-1).tolist()]


def _ranges(explanation: Explanation, row: int) -> dict[str, Any]:
    raw = {layer: _range(maps[row]) for layer, maps in explanation.raw.items()}
    return {"maps": _range(explanation.maps[row]), "raw": raw}


def _range(values: Tensor) -> dict[str, float | str]:
    if not values.numel():
        return {"min": "NaN", "max": "NaN"}
    low, high = _numbers(torch.stack(list(torch.aminmax(values.detach()))))
    return {"min": low, "max": high}
