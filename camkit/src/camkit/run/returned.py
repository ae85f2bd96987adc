"""What a model says of an image where it has no class scores, and which targets fit that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from camkit.run.predictions import class_name
from camkit_core import TargetError, main_tensor

_BEST = 3
"""Detections that are named one by one."""

_KEYS = ("boxes", "scores", "labels")
_EMBEDDINGS = ("image_embeds", "embeddings", "pooler_output")
_BOXES = "-t pred, box:0, box:LABEL or box:LABEL@x0,y0,x1,y1"
_DENSE = "-t pred, CLASS, mask:CLASS, pixel:X,Y or region:FILE"


def returned(output: Any, place: int, class_names: Sequence[str]) -> str:
    """One line on the output of the image at a place of the batch.

    Args:
        output: the explained part of the model's output.
        place: of the image in the batch.
        class_names: of the model, as far as they are known.
    """
    kinds: tuple[Callable[[Any, int, Sequence[str]], str], ...] = (
        *(_detections, _queries, _embedding, _tensor),
    )
    found = (kind(output, place, class_names) for kind in kinds)
    return next(filter(None, found), _unknown(output))


def _unknown(output: Any) -> str:
    return (
        f"{_shape(output)}, which are no class scores; `camkit targets` lists what can be "
        "explained of other outputs"
    )


def _detections(output: Any, place: int, names: Sequence[str]) -> str:
    """Of a list with one mapping per image, as detectors behind NMS return it."""
    one = output[place] if isinstance(output, list) and place < len(output) else None
    if not isinstance(one, Mapping) or not all(isinstance(one.get(k), Tensor) for k in _KEYS):
        return ""
    order = one["scores"].argsort(descending=True, stable=True)[:_BEST].tolist()
    best = [
        f"{class_name(int(one['labels'][index]), names)} {float(one['scores'][index]):.2f}"
        for index in order
    ]
    count = len(one["boxes"])
    if not count:
        return "no detections, so there is nothing to explain here"
    many = "1 detection" if count == 1 else f"{count} detections"
    return f"{many}: {' · '.join(best)}{' ...' if count > len(best) else ''}; {_BOXES}"


def _queries(output: Any, place: int, names: Sequence[str]) -> str:
    boxes = _part(output, "pred_boxes")
    if not isinstance(boxes, Tensor) or boxes.ndim != 3:
        return ""
    return f"{boxes.shape[1]} predicted boxes; {_BOXES}, or prediction:I"


def _embedding(output: Any, place: int, names: Sequence[str]) -> str:
    if isinstance(_part(output, "logits_per_image"), Tensor):
        return ""
    found = next((one for name in _EMBEDDINGS if (one := _part(output, name)) is not None), None)
    if not isinstance(found, Tensor):
        return ""
    return f"an embedding of {found.shape[-1]} numbers; -t pred, like:PHOTO or text:WORDS"


def _tensor(output: Any, place: int, names: Sequence[str]) -> str:
    try:
        found = main_tensor(output)
    except TargetError:
        return ""
    if found.ndim and found[place : place + 1].numel() == 1:
        return f"{float(found[place]):.4g}, a single number; -t value, or binary for its side"
    if found.ndim > 3:
        size = "x".join(map(str, found.shape[2:]))
        return f"scores of {found.shape[1]} classes at each of {size} places; {_DENSE}"
    if found.ndim == 3:
        return f"numbers {list(found.shape[1:])}; {_BOXES} if these are predictions before NMS"
    return ""


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"numbers {list(output.shape[1:])}"
    inside = list(output.items()) if isinstance(output, Mapping) else []
    parts = [f"{name} {list(one.shape)}" for name, one in inside if isinstance(one, Tensor)]
    return ", ".join(parts[:4]) or f"a {type(output).__name__}"
