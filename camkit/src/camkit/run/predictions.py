"""What the model says about each image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from camkit_core import TargetError, class_scores

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5


def predictions(
    output: Any, class_names: Sequence[str], *, multi_label: bool = False
) -> list[list[dict[str, Any]]]:
    """The five most probable classes of every image: index, name, probability.

    Softmax probabilities (sigmoid if the classes are independent), unless the outputs are
    probabilities already. Empty lists for outputs that are not class scores, and for models with
    one output.
    """
    try:
        scores = class_scores(output).detach().double()
    except TargetError:
        return []
    if scores.shape[1] < 2:
        return [[] for _ in scores]
    to_shares = scores.sigmoid if multi_label else partial(scores.softmax, 1)
    shares = scores if _are_probabilities(scores) else to_shares()
    # By score and stable: probabilities of hopeless classes are all zero, and equal scores must
    # not change places from call to call.
    indices = scores.sort(dim=1, descending=True, stable=True).indices[:, :TOP]
    values = shares.gather(1, indices)
    names = class_names if len(class_names) == shares.shape[1] else ()
    return [
        [
            {"class": index, "name": class_name(index, names), "probability": value}
            for index, value in zip(*row, strict=True)
        ]
        for row in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def class_name(index: int, class_names: Sequence[str]) -> str:
    """The name of a class, or `class 7` if names are not known."""
    return class_names[index] if index < len(class_names) else f"class {index}"


def _are_probabilities(scores: Tensor) -> bool:
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < 1e-4).all())
