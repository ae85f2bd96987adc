"""What detectors return, brought into two forms: final detections, and predictions before NMS.

Libraries are known by the shape of their output only; none of them is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from camkit_core import TargetError
from camkit_tasks.targets.boxes import from_center

_KEYS = ("boxes", "scores", "labels")

Form = Literal[
    "channels", "channels+objectness", "anchors", "anchors+objectness", "queries", "queries+sigmoid"
]
"""How predictions before NMS are laid out, with A anchors and K classes:

channels: probabilities in `[M, 4 + K, A]`; anchors: in `[M, A, 4 + K]`; with objectness: 5 + K, the
fifth of them. queries: `logits` `[M, A, K + 1]` for a softmax, the last one for no object, and
`pred_boxes` `[M, A, 4]` as parts of the image; with sigmoid: K logits, each for itself. All boxes
are center, width and height.
"""


@dataclass(frozen=True)
class Detections:
    """Final detections of M images, filled up to the most of them, B >= 1.

    Shapes: boxes `[M, B, 4]` (x0, y0, x1, y1 in pixels), scores and labels `[M, B]`. What fills up
    has the label -1, no area and the score 0.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Predictions:
    """Everything a detector predicts before NMS.

    Shapes: boxes `[M, A, 4]` (x0, y0, x1, y1), scores (confidence of every class) and their
    logits `[M, A, K]`, objectness `[M, A]` where there is one.
    """

    boxes: Tensor
    scores: Tensor
    logits: Tensor
    objectness: Tensor | None

    @property
    def certainty(self) -> Tensor:
        """How sure the detector is that there is anything, `[M, A]`.

        Its objectness; where it has none, the confidence of its best class stands in.
        """
        return self.scores.amax(-1) if self.objectness is None else self.objectness


# -- final detections ------------------------------------------------------------------------------


def final(output: Any) -> Detections | None:
    """Detections of an output with one mapping per image, or of rows `[M, B, 6]`; else None."""
    if isinstance(output, list | tuple) and output and all(map(_is_final, output)):
        rows = [[one[key] for one in output] for key in _KEYS]
    else:
        rows = _six_columns(output) or []
    return _filled(*rows) if rows else None


def _is_final(one: Any) -> bool:
    return isinstance(one, Mapping) and all(isinstance(one.get(key), Tensor) for key in _KEYS)


def _filled(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor]
) -> Detections:
    alike = [one.reshape(-1, 4) for one in boxes]
    return Detections(
        pad(pad_sequence(alike, batch_first=True), (0, 0, 0, 1)),
        pad(pad_sequence(list(scores), batch_first=True), (0, 1)),
        pad(pad_sequence(list(labels), batch_first=True, padding_value=-1), (0, 1), value=-1),
    )


def _six_columns(output: Any) -> list[list[Tensor]] | None:
    """Detections as rows `x0, y0, x1, y1, score, class`, which detectors without NMS return."""
    rows = _main_tensor(output)
    if rows is None or rows.shape[-1] != 6 or not rows.shape[1]:
        return None
    seen = rows.detach()
    classes = seen[..., 5]
    whole = (classes >= 0) & (classes == classes.round())
    ordered = (seen[..., 2:4] >= seen[..., :2]).all(-1)
    sure = (seen[..., 4] >= 0) & (seen[..., 4] <= 1)
    if not bool((whole & ordered & sure).all()):
        return None
    return [list(rows[..., :4]), list(rows[..., 4]), list(classes.long())]


# -- predictions before NMS ------------------------------------------------------------------------


def form_of(output: Any, classes: int | None) -> Form | None:
    """How the predictions in an output are laid out; None if there are none.

    Args:
        output: the explained part of a model's output.
        classes: number of classes, if it is known; without it the longer axis is the anchors', and
            only anchors last have no objectness.

    Raises:
        TargetError: two readings fit.
    """
    found = _queries(output)
    if found is not None:
        return "queries+sigmoid" if found[0].shape[-1] == classes else "queries"
    tensor = _main_tensor(output)
    if tensor is None:
        return None
    _, first, last = tensor.shape
    fitting = _with_classes(first, last, classes) if classes else _without(first, last)
    forms = [form for form in fitting if _plausible(tensor.detach(), form, classes)]
    if len(forms) > 1:
        raise TargetError(
            f"the model returned {list(tensor.shape)}, which reads as predictions in the forms "
            f"{' and '.join(map(repr, forms))}; say which: target=Box(form={forms[0]!r}) of "
            "camkit_tasks.targets.detection"
        )
    return forms[0] if forms else None


def predictions(output: Any, form: Form, classes: int | None) -> Predictions:
    """Predictions of an output in a known form.

    Raises:
        TargetError: the output is of another form.
    """
    if form.startswith("queries"):
        found = _queries(output)
        if found is None:
            raise _other(output, form)
        return _of_queries(*found, sigmoid=form.endswith("sigmoid"))
    tensor = _main_tensor(output)
    if tensor is None or tensor.shape[1 if form.startswith("channels") else 2] < _first_class(form):
        raise _other(output, form)
    return _of_columns(tensor, form, classes)


def _of_queries(logits: Tensor, boxes: Tensor, *, sigmoid: bool) -> Predictions:
    boxes = from_center(boxes)
    if sigmoid:
        return Predictions(boxes, logits.sigmoid(), logits, None)
    found = logits.softmax(-1)
    return Predictions(boxes, found[..., :-1], logits[..., :-1], 1 - found[..., -1])


def _of_columns(tensor: Tensor, form: Form, classes: int | None) -> Predictions:
    rows = tensor.transpose(1, 2) if form.startswith("channels") else tensor
    start = _first_class(form)
    found = rows[..., start : start + classes if classes else None]
    logits = found.logit(torch.finfo(found.dtype).eps)
    if start == 4:
        return Predictions(from_center(rows[..., :4]), found, logits, None)
    objectness = rows[..., 4]
    return Predictions(
        from_center(rows[..., :4]), found * objectness[..., None], logits, objectness
    )


def _first_class(form: Form) -> int:
    return 5 if form.endswith("objectness") else 4


def _with_classes(first: int, last: int, classes: int) -> list[Form]:
    """Forms whose number of columns is right; further columns (masks, points) may follow."""
    exact: list[Form] = []
    if first == 4 + classes:
        exact.append("channels")
    if last == 4 + classes:
        exact.append("anchors")
    if first == 5 + classes:
        exact.append("channels+objectness")
    if last == 5 + classes:
        exact.append("anchors+objectness")
    if exact:
        return exact
    return ["channels"] if 4 + classes < first < last else []


def _without(first: int, last: int) -> list[Form]:
    channels: list[Form] = ["channels"] if 5 <= first <= last else []
    anchors: list[Form] = ["anchors+objectness"] if 6 <= last <= first else []
    return channels + anchors


def _plausible(tensor: Tensor, form: Form, classes: int | None) -> bool:
    """Whether sizes are positive and what should be probabilities are."""
    rows = tensor.transpose(1, 2) if form.startswith("channels") else tensor
    sure = rows[..., 4 : _first_class(form) + classes if classes else None]
    if not sure.numel():
        return False
    return bool((rows[..., 2:4] >= 0).all() and (sure >= 0).all() and (sure <= 1).all())


def _queries(output: Any) -> tuple[Tensor, Tensor] | None:
    found = [_part(output, name) for name in ("logits", "pred_logits")]
    logits = next((one for one in found if isinstance(one, Tensor)), None)
    boxes = _part(output, "pred_boxes")
    if logits is None or not isinstance(boxes, Tensor) or logits.ndim != 3 or boxes.ndim != 3:
        return None
    return (logits, boxes) if logits.shape[-1] > 1 and boxes.shape[-1] == 4 else None


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _main_tensor(output: Any) -> Tensor | None:
    """The output, or the first of several (others return their feature maps besides)."""
    if isinstance(output, list | tuple) and output and not isinstance(output[0], Mapping):
        output = output[0]
    three = isinstance(output, Tensor) and output.ndim == 3 and output.is_floating_point()
    return output if three else None


def _other(output: Any, form: Form) -> TargetError:
    found = f"{list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    return TargetError(
        f"the target was bound to predictions in the form {form!r}, but the model returned {found}"
    )
