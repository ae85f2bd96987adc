"""Targets of detectors: a box of the answer, or a prediction from before NMS.

The words, with K, R and I counted from 0 and coordinates in pixels of the model's input:

| words | what is explained |
| --- | --- |
| `pred`, `pred:R`, `box:R` | the detection with the R-th highest score |
| `box:LABEL`, `box:LABEL:R`, `LABEL` | the R-th best detection of a class, by name or synonym |
| `box:LABEL@x0,y0,x1,y1` | that class at that place, whether or not the detector found it |
| `box:@x0,y0,x1,y1` | the detection that overlaps that place most |
| `prediction:I`, `prediction:I:LABEL` | prediction I before NMS: its best class, or the given one |

A class may be given by its number where a rank cannot be meant: `box:17:0`, `box:17@0,0,9,9`. Each
may be followed by `.PART`: `.score`, `.logit` and `.objectness` (where the model has them), or
`.x0 .y0 .x1 .y1 .cx .cy .width .height`. Without it a final detection is scored by overlap plus
score, a prediction by its score.

Final detections are read from a list with one mapping of `boxes`, `scores` and `labels` per image
(torchvision's convention) or from rows `x0, y0, x1, y1, score, class`; see `detection_final` for
how a box is found again. In predictions before NMS (see `detection_read.Form`) a box is a number,
which keeps its meaning whatever the image: `box:R` and `box:LABEL` choose it on the clean output,
passing over predictions that repeat a better one of their class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from camkit_core import Target, TargetContext, TargetError, near
from camkit_tasks.targets.boxes import PARTS
from camkit_tasks.targets.detection_raw import Raw
from camkit_tasks.targets.detection_read import final
from camkit_tasks.targets.detection_targets import Box, Corners, Prediction
from camkit_tasks.targets.names import class_index

_PART = f"score|logit|objectness|{'|'.join(PARTS)}"
_WORDS = re.compile(rf"(box|prediction)\s*:(.*?)(?:\.({_PART}))?")
_PRED = re.compile(r"pred(?::([0-9]+))?")
_NUMBER = re.compile("[0-9]+")


def from_words(request: str, output: Any, context: TargetContext) -> Target | None:
    """The target of a detector that the words name (see above); None if they name none.

    `pred`, `pred:R` and the number of a class are understood where the output is a detector's.

    Raises:
        TargetError: `box:` or `prediction:`, but what follows is not understood.
    """
    request, context = request.strip(), with_names(context)
    found = _WORDS.fullmatch(request)
    if found and found[1] == "prediction":
        return _prediction(found[2].strip(), found[3], request, context)
    if found:
        return _box(found[2].strip(), found[3], request, context)
    answer = _PRED.fullmatch(request)
    if not (answer or _NUMBER.fullmatch(request)) or not _detected(output, context):
        return None
    target = Box(rank=int(answer[1] or 0)) if answer else Box(label=int(request))
    return replace(target, classes=_classes(context), size=_size(context))


def with_names(context: TargetContext) -> TargetContext:
    """With the class names that the model itself carries, where no others are known.

    These are `names` (detectors that are trained as YOLO is) or `config.id2label`.
    """
    if context.class_names:
        return context
    carried = getattr(context.model, "names", None)
    if carried is None:
        carried = getattr(getattr(context.model, "config", None), "id2label", None)
    if isinstance(carried, Mapping) and set(carried) == set(range(len(carried))):
        carried = [carried[index] for index in range(len(carried))]
    if isinstance(carried, list | tuple) and all(isinstance(name, str) for name in carried):
        return replace(context, class_names=tuple(carried))
    return context


def _classes(context: TargetContext) -> int | None:
    return len(context.class_names) or None


def _size(context: TargetContext) -> tuple[int, int] | None:
    height, width = context.image.shape[-2:]
    return (int(height), int(width))


def _detected(output: Any, context: TargetContext) -> bool:
    if final(output) is not None:
        return True
    return Raw.of(output, None, _classes(context), None) is not None


def _box(what: str, part: str | None, request: str, context: TargetContext) -> Box:
    box = Box(part=part, classes=_classes(context), size=_size(context))
    name, at, place = what.partition("@")
    if at:
        label = _label(name, request, context) if name.strip() else None
        return replace(box, label=label, at=_corners(place, request))
    if _NUMBER.fullmatch(what):
        return replace(box, rank=int(what))
    name, _, rank = what.rpartition(":")
    if name and _NUMBER.fullmatch(rank):
        return replace(box, label=_label(name, request, context), rank=int(rank))
    return replace(box, label=_label(what, request, context))


def _prediction(what: str, part: str | None, request: str, context: TargetContext) -> Prediction:
    index, colon, name = what.partition(":")
    if not _NUMBER.fullmatch(index):
        raise _nonsense(request)
    label = _label(name, request, context) if colon else None
    size = _size(context)
    return Prediction(int(index), label, part, classes=_classes(context), size=size)


def _label(name: str, request: str, context: TargetContext) -> int:
    if not name.strip():
        raise _nonsense(request)
    found = class_index(name, context)
    if found is None:
        names = context.class_names
        known = near(name.strip(), names) if names else "; this model's class names are not known"
        raise TargetError(
            f"target={request!r}: no class is called {name.strip()!r}{known}; give a name, or a "
            "number where no rank can be meant (box:17:0)"
        )
    return found


def _corners(written: str, request: str) -> Corners:
    try:
        x0, y0, x1, y1 = (float(value) for value in written.split(","))
    except ValueError as error:
        raise _nonsense(request) from error
    if not (x0 < x1 and y0 < y1):
        raise TargetError(f"target={request!r}: a box is x0,y0,x1,y1 with x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def _nonsense(request: str) -> TargetError:
    return TargetError(
        f"target={request!r} is not understood: say box:R, box:LABEL, box:LABEL:R, "
        "box:LABEL@x0,y0,x1,y1 or prediction:I[:LABEL], each followed by .PART if only a part is "
        f"meant (score, logit, objectness, {', '.join(PARTS)})"
    )
