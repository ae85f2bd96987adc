"""Targets on predictions from before NMS: a box is a number, and stays the same one.

Scores of single predictions are differentiable wherever the detector is, and need no matching.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from camkit_core import TargetError, TargetInfo
from camkit_tasks.targets.boxes import PARTS, distinct, overlap
from camkit_tasks.targets.detection_final import NOTHING, no_detections
from camkit_tasks.targets.detection_read import Form, Predictions, form_of, predictions

_CANDIDATES = 1000
"""Best predictions among which repetitions are looked for."""

Chosen = tuple[Tensor, Tensor]
"""Prediction and class of every image, `[N]` each; -1 where there is none."""


@dataclass(frozen=True, eq=False)
class Raw:
    """Predictions of a clean output, and how they are read.

    Attributes:
        found: the predictions.
        form: their layout.
        classes: number of classes, if it was given.
        size: height and width of the model's input; boxes that are parts of it become pixels.
    """

    found: Predictions
    form: Form
    classes: int | None
    size: tuple[int, int] | None

    @classmethod
    def of(
        cls, output: Any, form: Form | None, classes: int | None, size: tuple[int, int] | None
    ) -> Raw | None:
        """Predictions in an output, or None.

        Raises:
            TargetError: two readings fit, or the output has not the given form.
        """
        form = form or form_of(output, classes)
        if form is None:
            return None
        return cls(in_pixels(predictions(output, form, classes), form, size), form, classes, size)

    @property
    def pixels(self) -> bool:
        """Whether boxes are in pixels."""
        return self.size is not None or not self.form.startswith("queries")

    def ranked(self, rank: int, label: int | None, iou: float, words: str) -> Chosen:
        """The prediction of that rank among those that do not repeat a better one.

        Queries are not suppressed: such detectors are trained to find every object once.

        Raises:
            TargetError: no image has so many.
        """
        self._check_class(label, words)
        scores, classes = self._best(label)
        # Where nothing is suppressed, the best ones are the first ones.
        limit = 2.0 if self.form.startswith("queries") else iou
        rows = [
            self._order(image, scores[image], classes[image], rank + 1, limit)
            for image in range(len(scores))
        ]
        most = max(map(len, rows))
        if rank >= most:
            raise TargetError(
                f"target={words!r}: there are {most} different predictions, counted from 0"
            )
        index = torch.stack([row[rank] if len(row) > rank else row.new_tensor(-1) for row in rows])
        return self._with_classes(index, classes)

    def nearest(self, at: tuple[float, ...], label: int | None) -> Chosen:
        """The prediction that overlaps a place most; of several alike, the best by score."""
        self._check_class(label, f"box:{label}@...")
        scores, classes = self._best(label)
        ious = overlap(self.found.boxes.new_tensor([at]), self.found.boxes.detach())[:, 0]
        top = ious.amax(1, keepdim=True)
        index = scores.where(ious >= top, -torch.inf).argmax(1)
        return self._with_classes(index.where(top[:, 0] > 0, -1), classes)

    def numbered(self, index: int, label: int | None, words: str) -> Chosen:
        """Prediction `index` of every image.

        Raises:
            TargetError: out of range.
        """
        anchors = self.found.scores.shape[1]
        if not 0 <= index < anchors:
            raise TargetError(f"target={words!r}: there are predictions 0..{anchors - 1}")
        self._check_class(label, words)
        _, classes = self._best(label)
        return self._with_classes(torch.full_like(classes[:, 0], index), classes)

    def bound(self, chosen: Chosen, part: str, words: str) -> BoundPrediction:
        """A target bound to the chosen predictions.

        Raises:
            TargetError: the detector has no such part.
        """
        if part == "objectness" and self.found.objectness is None:
            raise TargetError(
                f"target={words!r}: this detector has no objectness, only the scores of its "
                "classes; leave the part out to explain the score"
            )
        return BoundPrediction(self, *chosen, part, words)

    def _best(self, label: int | None) -> Chosen:
        """Score and class of every prediction, `[N, A]` each: the best class, or the given one."""
        scores = self.found.scores.detach()
        if label is None:
            best = scores.max(-1)
            return best.values, best.indices
        return scores[..., label], torch.full_like(scores[..., 0], label, dtype=torch.long)

    def _order(
        self, image: int, scores: Tensor, classes: Tensor, most: int, limit: float
    ) -> Tensor:
        few = scores.sort(descending=True, stable=True).indices[:_CANDIDATES]
        boxes = self.found.boxes.detach()[image, few]
        return few[distinct(boxes, scores[few], classes[few], most, limit)]

    def _with_classes(self, index: Tensor, classes: Tensor) -> Chosen:
        chosen = classes.gather(1, index.clamp_min(0)[:, None])[:, 0]
        return index, chosen.where(index >= 0, -1)

    def _check_class(self, label: int | None, words: str) -> None:
        count = self.found.scores.shape[2]
        if label is not None and not 0 <= label < count:
            raise TargetError(
                f"target={words!r}: class {label} is out of range, there are 0..{count - 1}"
            )


@dataclass(frozen=True, eq=False)
class BoundPrediction:
    """One prediction per image.

    Attributes:
        clean: predictions on the clean output, and how others are read.
        index: `[N]`, -1 where there is none.
        classes: `[N]`, class of each.
        part: `score`, `logit`, `objectness` or a key of `PARTS`.
        words: what was asked for, for people.
    """

    clean: Raw
    index: Tensor
    classes: Tensor
    part: str
    words: str

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`; 0 where there is no such prediction.

        Raises:
            TargetError: the output is of another form than the clean one.
        """
        found = self._read(output)
        owner = owner.to(found.scores.device)
        index, classes = (of.to(owner.device)[owner] for of in (self.index, self.classes))
        values = self._values(found, classes.clamp_min(0))
        return values.gather(1, index.clamp_min(0)[:, None])[:, 0].where(index >= 0, 0.0)

    def _read(self, output: Any) -> Predictions:
        form, size = self.clean.form, self.clean.size
        return in_pixels(predictions(output, form, self.clean.classes), form, size)

    def _values(self, found: Predictions, classes: Tensor) -> Tensor:
        """What is explained, of all predictions, `[M, A]`."""
        if self.part in PARTS:
            return PARTS[self.part](found.boxes)
        if self.part == "objectness":
            assert found.objectness is not None
            return found.objectness
        of_classes = found.logits if self.part == "logit" else found.scores
        rows = torch.arange(len(classes), device=classes.device)
        return of_classes[rows, :, classes]

    @property
    def similarity(self) -> Similarity:
        """The same prediction, scored as D-RISE compares detections."""
        return Similarity(self)

    def describe(self) -> TargetInfo:
        """Number, class and place in every image, and which images have none."""
        images = range(len(self.index))
        labels = tuple(map(self._label, images))
        missing = tuple(image for image in images if int(self.index[image]) < 0)
        return TargetInfo(
            kind="box",
            label=", ".join(dict.fromkeys(labels)),
            labels=labels,
            boxes=self.boxes[:, None] if self.clean.pixels else None,
            absent=missing,
            issues=(no_detections(self.words, missing),) if missing else (),
        )

    @property
    def boxes(self) -> Tensor:
        """Clean box of every image, `[N, 4]`; NaN where there is none."""
        rows = torch.arange(len(self.index), device=self.index.device)
        boxes = self.clean.found.boxes.detach()[rows, self.index.clamp_min(0)]
        return boxes.where((self.index >= 0)[:, None], torch.nan)

    def _label(self, image: int) -> str:
        index, of = int(self.index[image]), int(self.classes[image])
        if index < 0:
            return f"{self.words}: {NOTHING}"
        sure = float(self.clean.found.scores[image, index, of])
        what = "" if self.part == "score" else f"{self.part} of "
        return f"{what}class {of} in prediction {index} ({sure:.2f})"


@dataclass(frozen=True, eq=False)
class Similarity:
    """D-RISE's similarity of a row's predictions with the bound one (arXiv 2006.03204, eq. 2-5).

    max_j IoU(L, L_j) cos(P, P_j) O_j over all predictions j of a row: L a box, P the scores of all
    classes, O the objectness, or the best class's score where the detector has none.
    """

    bound: BoundPrediction

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Similarities `[M]` in [0, 1]."""
        found, bound = self.bound._read(output), self.bound
        owner = owner.to(found.scores.device)
        boxes = bound.boxes.nan_to_num().to(found.boxes)[owner]
        rows = torch.arange(len(bound.index), device=bound.index.device)
        clean = bound.clean.found.scores.detach()[rows, bound.index.clamp_min(0)]
        wanted = clean.to(found.scores)[owner, None]
        alike = torch.cosine_similarity(wanted, found.scores, -1) * found.certainty
        near = overlap(boxes[:, None], found.boxes)[:, 0]
        return (near * alike).amax(1).where(bound.index.to(owner.device)[owner] >= 0, 0.0)

    def describe(self) -> TargetInfo:
        """As the prediction."""
        info = self.bound.describe()
        return replace(info, kind="similarity", label=f"similarity to {info.label}")


def in_pixels(found: Predictions, form: Form, size: tuple[int, int] | None) -> Predictions:
    """Boxes that are parts of the image, as pixels of an input of that height and width."""
    if size is None or not form.startswith("queries"):
        return found
    scale = found.boxes.new_tensor([size[1], size[0], size[1], size[0]])
    return replace(found, boxes=found.boxes * scale)
