"""Outputs of detectors, written down by hand or drawn with a seed, and a slow reading of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import TargetContext

Box = list[float]

ONE = {
    "boxes": [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [30.0, 30.0, 50.0, 60.0]],
    "scores": [0.9, 0.8, 0.7],
    "labels": [1, 2, 1],
}
TWO = {"boxes": [[5.0, 5.0, 25.0, 15.0]], "scores": [0.6], "labels": [2]}
NOTHING = {"boxes": [], "scores": [], "labels": []}


def final(*images: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Detections as torchvision returns them, in float64."""
    return [
        {
            "boxes": torch.tensor(one["boxes"], dtype=torch.float64).reshape(-1, 4),
            "scores": torch.tensor(one["scores"], dtype=torch.float64),
            "labels": torch.tensor(one["labels"], dtype=torch.long),
        }
        for one in images
    ]


def iou(one: Box, other: Box) -> float:
    """Intersection over union, as everybody writes it."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return width * height / (sum(areas) - width * height)


def anchors(n: int = 2, count: int = 12, classes: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """Centers and sizes `[n, A, 4]`, probabilities `[n, A, K]`, objectness `[n, A]`."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, count, *shape, generator=generator, dtype=torch.float64)

    sizes = 8 + 20 * uniform(2)
    return {
        "boxes": torch.cat([10 + 60 * uniform(2), sizes], 2),
        "classes": 0.02 + 0.96 * uniform(classes),
        "objectness": 0.02 + 0.96 * uniform(),
    }


def output_of(form: str, parts: dict[str, Tensor]) -> Any:
    """The same predictions in one of the forms."""
    if form.startswith("queries"):
        boxes = parts["boxes"] / torch.tensor([100.0, 80.0, 100.0, 80.0], dtype=torch.float64)
        logits = parts["classes"].logit()
        if form == "queries":
            logits = torch.cat([logits, parts["objectness"].logit()[..., None]], 2)
        return {"logits": logits, "pred_boxes": boxes}
    columns = [parts["boxes"], parts["classes"]]
    if form.endswith("objectness"):
        columns.insert(1, parts["objectness"][..., None])
    rows = torch.cat(columns, 2)
    return rows.transpose(1, 2) if form.startswith("channels") else rows


def confidence(form: str, parts: dict[str, Tensor]) -> Tensor:
    """Score of every class in every prediction, `[n, A, K]`, in that form."""
    classes = parts["classes"]
    if form == "queries":
        powers = torch.cat([classes.logit(), parts["objectness"].logit()[..., None]], 2).exp()
        return powers[..., :-1] / powers.sum(2, keepdim=True)
    if form.endswith("objectness"):
        return classes * parts["objectness"][..., None]
    return classes


def corners(box: list[float]) -> Box:
    """x0, y0, x1, y1 of a center and a size."""
    x, y, width, height = box
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def context(
    names: tuple[str, ...] = ("nothing", "cat", "dog"),
    *,
    n: int = 2,
    size: tuple[int, int] = (80, 100),
    model: nn.Module | None = None,
) -> TargetContext:
    """What a plugin is told besides the output."""
    image = torch.zeros(n, 3, *size)
    return TargetContext(model=model or nn.Identity(), image=image, class_names=names)
