"""Targets on final detections, behind NMS: a box is found again by its label and its place.

What is behind NMS has no number that survives a change of the image, so a bound box is its label
and its coordinates. A row is scored by that one of its detections which has the same label and the
highest overlap, if that exceeds a threshold; else the score is zero, and stays in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from camkit_core import Issue, TargetError, TargetInfo
from camkit_tasks.targets.boxes import PARTS, overlap
from camkit_tasks.targets.detection_read import Detections, final

Variant = Literal["label", "grad-cam"]


@dataclass(frozen=True)
class BoundBoxes:
    """P boxes per image, scored by the detections that match them.

    Attributes:
        boxes: `[N, P, 4]`, x0, y0, x1, y1 in pixels of the model's input; NaN where there is none.
        labels: `[N, P]`, -1 where there is none.
        part: `match` (overlap plus score), `score`, or a key of `PARTS`.
        iou: overlap that a match must exceed.
        variant: `label` looks among the detections of the same label; `grad-cam` takes the best
            overlap of any label, and counts it if the label is the same, as that library does.
        words: what was asked for, for people.
        sure: `[N, P]`, scores on the clean output, NaN where a box was given by hand.
    """

    boxes: Tensor
    labels: Tensor
    part: str = "match"
    iou: float = 0.5
    variant: Variant = "label"
    words: str = "box"
    sure: Tensor | None = None

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`, summed over the boxes; 0 for a box that nothing matches."""
        if not len(owner):
            return self.boxes.new_zeros(0)
        found, boxes, labels = self._rows(output, owner)
        ious, same = overlap(boxes, found.boxes), _same(labels, found)
        among = ious.detach() if self.variant == "grad-cam" else ious.detach().where(same, -1.0)
        best = among.argmax(-1, keepdim=True)
        matched = (among.gather(-1, best) > self.iou) & same.gather(-1, best)
        return self._value(found, ious, best).where(matched[..., 0], 0.0).sum(-1)

    def _rows(self, output: Any, owner: Tensor) -> tuple[Detections, Tensor, Tensor]:
        """Detections of M rows, and the boxes `[M, P, 4]` and labels `[M, P]` of their owners."""
        found = need_final(output)
        device = found.boxes.device
        owner = owner.to(device)
        boxes = self.boxes.to(found.boxes).nan_to_num()
        return found, boxes[owner], self.labels.to(device)[owner]

    def _value(self, found: Detections, ious: Tensor, best: Tensor) -> Tensor:
        """What the best detection of every box is worth, `[M, P]`."""
        if self.part in PARTS:
            return PARTS[self.part](found.boxes).gather(1, best[..., 0])
        scores = found.scores.gather(1, best[..., 0])
        return scores if self.part == "score" else ious.gather(-1, best)[..., 0] + scores

    @property
    def similarity(self) -> Similarity:
        """The same boxes, scored as D-RISE compares detections."""
        return Similarity(self)

    def describe(self) -> TargetInfo:
        """Label and place of the boxes of every image, and which images have none."""
        labels = tuple(map(self._label, range(len(self.boxes))))
        missing = tuple(image for image, label in enumerate(labels) if label.endswith(NOTHING))
        return TargetInfo(
            kind="box",
            label=", ".join(dict.fromkeys(labels)),
            labels=labels,
            boxes=self.boxes,
            absent=missing,
            issues=(no_detections(self.words, missing),) if missing else (),
        )

    def _label(self, image: int) -> str:
        known = [place for place, k in enumerate(self.labels[image].tolist()) if k >= 0]
        named = " and ".join(self._one(image, place) for place in known)
        what = "" if self.part == "match" else f"{self.part} of "
        return f"{what}{named}" if named else f"{self.words}: {NOTHING}"

    def _one(self, image: int, place: int) -> str:
        corners = ",".join(f"{value:.0f}" for value in self.boxes[image, place].tolist())
        sure = float("nan") if self.sure is None else float(self.sure[image, place])
        how_sure = "" if sure != sure else f" ({sure:.2f})"
        return f"class {int(self.labels[image, place])} at {corners}{how_sure}"


NOTHING = "no detection"


@dataclass(frozen=True)
class Similarity:
    """D-RISE's similarity of a row's detections with the bound box (arXiv 2006.03204, eq. 2-5).

    max_j IoU(L, L_j) cos(P, P_j) O_j over the detections j of a row. Behind NMS a detector returns
    one label and its score instead of class probabilities P and objectness O. So P is taken to be
    all in that label: the cosine is 1 for the same label, else 0; and the score, the only
    confidence there is, stands for O.
    """

    bound: BoundBoxes

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Similarities `[M]` in [0, 1]; their sum where several boxes are bound."""
        if not len(owner):
            return self.bound.boxes.new_zeros(0)
        found, boxes, labels = self.bound._rows(output, owner)
        alike = overlap(boxes, found.boxes) * found.scores[..., None, :]
        return alike.where(_same(labels, found), 0.0).amax(-1).sum(-1)

    def describe(self) -> TargetInfo:
        """As the boxes."""
        info = self.bound.describe()
        return replace(info, kind="similarity", label=f"similarity to {info.label}")


def _same(labels: Tensor, found: Detections) -> Tensor:
    """Whether detections have the labels of the boxes, `[M, P, B]`; never where there is none."""
    return (labels[..., None] == found.labels[..., None, :]) & (labels[..., None] >= 0)


def no_detections(words: str, images: tuple[int, ...]) -> Issue:
    """What a reader of an empty answer must know."""
    return Issue(
        "no_detections",
        f"{words}: the detector found no such thing here, so there is nothing to explain and the "
        "map is zero; lower the detector's score threshold to see what it hesitates to report",
        images,
    )


def need_final(output: Any) -> Detections:
    """Detections of an output.

    Raises:
        TargetError: there are none to be found in it.
    """
    found = final(output)
    if found is None:
        raise TargetError(
            f"a box is bound to final detections, but the model returned {type(output).__name__}; "
            "expected a list with one mapping of boxes, scores and labels per image"
        )
    return found


def ranked(found: Detections, label: int | None, rank: int, words: str) -> tuple[Tensor, Tensor]:
    """Place `[N]` of every image's detection of that rank, best first, and whether there is one.

    Raises:
        TargetError: images have detections of that label, but none has so many.
    """
    fits = found.labels >= 0 if label is None else found.labels == label
    counts = fits.sum(1)
    most = int(counts.max())
    if 0 < most <= rank:
        of = "" if label is None else f" of class {label}"
        raise TargetError(
            f"target={words!r}: there are at most {most} detections{of} in an image, counted from "
            f"0, so none has the rank {rank}"
        )
    scores = found.scores.detach().where(fits, -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return order[:, min(rank, order.shape[1] - 1)], counts > rank
