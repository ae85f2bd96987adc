"""A box of a detector's answer, several given boxes, or one prediction from before NMS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core import BoundTarget, OptionError, Runner, TargetError
from camkit_tasks.targets.boxes import PARTS, overlap
from camkit_tasks.targets.detection_final import BoundBoxes, Variant, ranked
from camkit_tasks.targets.detection_raw import Raw
from camkit_tasks.targets.detection_read import Detections, Form, final

Corners = tuple[float, float, float, float]
_REPEATS = 0.5
"""Overlap from which a prediction before NMS repeats a better one of its class."""


@dataclass(frozen=True)
class Box:
    """One detection per image, chosen on the clean output.

    Attributes:
        rank: 0 for the best by score, 1 for the next, ...
        label: of this class only.
        at: x0, y0, x1, y1 in pixels of the model's input. With a label, the box to look for,
            whether or not it was found; without, the detection that overlaps it most.
        part: `score`, `logit`, `objectness` or a coordinate; None for overlap plus score of final
            detections, and for the score of predictions before NMS.
        iou: overlap that a match must exceed, for final detections.
        variant: how final detections are matched, see `BoundBoxes`.
        form: how predictions before NMS are laid out; None finds out.
        classes: number of classes, where predictions before NMS are followed by something else.
        size: height and width of the model's input, for boxes given as parts of the image.
    """

    rank: int = 0
    label: int | None = None
    at: Corners | None = None
    part: str | None = None
    iou: float = 0.5
    variant: Variant = "label"
    form: Form | None = None
    classes: int | None = None
    size: tuple[int, int] | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Settle which box it is in every image.

        Raises:
            TargetError: not the output of a detector, or there is no such rank or part.
        """
        found = final(output)
        if found is not None:
            return self._bound(found)
        raw = Raw.of(output, self.form, self.classes, self.size)
        if raw is None:
            raise TargetError(f"target={self.words!r}: {not_a_detector(output)}")
        return raw.bound(self._chosen(raw), self.part or "score", self.words)

    @classmethod
    def example(cls) -> tuple[Box, Any]:
        """A box, and an output that has it in every image, for conformance checks."""
        boxes = torch.tensor([[2.0, 3.0, 20.0, 30.0], [30.0, 5.0, 55.0, 25.0]], dtype=torch.float64)
        scores = torch.tensor([0.9, 0.6], dtype=torch.float64)
        one = {"boxes": boxes, "scores": scores, "labels": torch.tensor([3, 1])}
        two = {"boxes": boxes[:1] + 4, "scores": scores[1:], "labels": torch.tensor([1])}
        return cls(), [one, two]

    @property
    def words(self) -> str:
        """The words for it."""
        label = "" if self.label is None else f"{self.label}"
        if self.at is not None:
            what = f"{label}@{','.join(f'{value:g}' for value in self.at)}"
        else:
            what = f"{label}:{self.rank}" if label else f"{self.rank}"
        return f"box:{what}.{self.part}" if self.part else f"box:{what}"

    def _bound(self, found: Detections) -> BoundBoxes:
        """On final detections."""
        part = self.part or "match"
        if part not in ("match", "score", *PARTS):
            raise TargetError(
                f"target={self.words!r}: final detections have no {part}, only a score and a box "
                f"({', '.join(PARTS)})"
            )
        if self.at is not None and self.label is not None:
            return self._given(found, self.label, part)
        place, there = self._place(found)
        rows = torch.arange(len(place), device=place.device)
        boxes = found.boxes.detach()[rows, place].where(there[:, None], torch.nan)
        labels = found.labels[rows, place].where(there, -1)
        sure = found.scores.detach()[rows, place]
        return BoundBoxes(
            boxes[:, None], labels[:, None], part, self.iou, self.variant, self.words, sure[:, None]
        )

    def _given(self, found: Detections, label: int, part: str) -> BoundBoxes:
        boxes = found.boxes.new_tensor(self.at).expand(len(found.boxes), 1, 4)
        labels = torch.full_like(found.labels[:, :1], label)
        return BoundBoxes(boxes, labels, part, self.iou, self.variant, self.words)

    def _place(self, found: Detections) -> tuple[Tensor, Tensor]:
        if self.at is None:
            return ranked(found, self.label, self.rank, self.words)
        near = overlap(found.boxes.new_tensor([self.at]), found.boxes.detach())[:, 0]
        best = near.max(1)
        return best.indices, best.values > 0

    def _chosen(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Prediction and class `[N]` on predictions before NMS; -1 where there is none."""
        if self.at is not None:
            return raw.nearest(self.at, self.label)
        return raw.ranked(self.rank, self.label, _REPEATS, self.words)


@dataclass(frozen=True)
class Boxes:
    """The sum over several given boxes, the same for every image.

    Attributes:
        labels: class of each box.
        boxes: x0, y0, x1, y1 of each, in pixels of the model's input.
        part: see `Box`.
        iou: see `Box`.
        variant: see `Box`.
    """

    labels: tuple[int, ...]
    boxes: tuple[Corners, ...]
    part: str = "match"
    iou: float = 0.5
    variant: Variant = "label"

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            OptionError: not one label for each box.
        """
        if len(self.labels) != len(self.boxes) or not self.boxes:
            raise OptionError(
                f"Boxes got {len(self.labels)} labels for {len(self.boxes)} boxes: give one label "
                "for each of at least one box"
            )

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Nothing is left to settle but the number of images.

        Raises:
            TargetError: not the output of a detector behind NMS.
        """
        found = final(output)
        if found is None:
            raise TargetError(f"target=Boxes(...): {not_a_detector(output)}")
        images = len(found.boxes)
        boxes = found.boxes.new_tensor(self.boxes).expand(images, -1, 4)
        labels = found.labels.new_tensor(self.labels).expand(images, -1)
        return BoundBoxes(boxes, labels, self.part, self.iou, self.variant, "boxes")


@dataclass(frozen=True)
class Prediction:
    """One prediction from before NMS, by its number.

    Attributes:
        index: which one, from 0.
        label: the class whose score it is; None for the best one of the clean output.
        part: see `Box`.
        form: see `Box`.
        classes: see `Box`.
        size: see `Box`.
    """

    index: int
    label: int | None = None
    part: str | None = None
    form: Form | None = None
    classes: int | None = None
    size: tuple[int, int] | None = None

    @classmethod
    def example(cls) -> tuple[Prediction, Any]:
        """A prediction and an output `[2, 4 + 3, 9]` that has it, for conformance checks."""
        generator = torch.Generator().manual_seed(1)
        output = torch.rand(2, 7, 9, generator=generator, dtype=torch.float64)
        return cls(4, form="channels"), output

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Settle the class.

        Raises:
            TargetError: no predictions, or none of that number, class or part.
        """
        words = f"prediction:{self.index}"
        raw = Raw.of(output, self.form, self.classes, self.size)
        if raw is None:
            raise TargetError(
                f"target={words!r}: the model returned no predictions from before NMS; for final "
                "detections say box:0 (the best), box:LABEL or box:LABEL@x0,y0,x1,y1"
            )
        return raw.bound(raw.numbered(self.index, self.label, words), self.part or "score", words)


def not_a_detector(output: Any) -> str:
    """What is expected of a detector, where an output is something else."""
    return (
        f"the model returned {_described(output)}, but a box is read from a list with one mapping "
        "of boxes, scores and labels per image, from rows [N, B, 6], from predictions "
        "[N, 4 + classes, anchors] or [N, anchors, 5 + classes] with scores in [0, 1], or from "
        "logits and pred_boxes; if it is a part of the output, name it with output="
    )


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {list(output.shape)}"
    if isinstance(output, list | tuple) and output:
        return f"{type(output).__name__} of {_described(output[0])}"
    keys = list(output)[:6] if isinstance(output, Mapping) else []
    return type(output).__name__ + (f" with {', '.join(map(str, keys))}" if keys else "")
