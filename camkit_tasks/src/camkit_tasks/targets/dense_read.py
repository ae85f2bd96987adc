"""Class scores at every position, `[N, K, *S]`, as models return them, and what they predict.

With one channel, K = 1, a position is of class 0 where its logit is positive, else of none.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from camkit_core import TargetError, main_tensor
from camkit_tasks.targets.scores import at_least_float

Of = Literal["logit", "probability"]


def dense_maps(output: Any) -> Tensor:
    """Class scores `[N, K, *S]` in a model's output.

    Raises:
        TargetError: there are none.
    """
    maps = main_tensor(output)
    if maps.ndim < 3:
        raise TargetError(
            f"a mask, region or pixel needs class scores at every position, [N, K, *S], but the "
            f"model returned {list(maps.shape)}"
        )
    return maps


def predicted(maps: Tensor) -> Tensor:
    """Predicted class of every position, `[N, *S]`; -1 for none."""
    if maps.shape[1] == 1:
        return (maps[:, 0] > 0).long() - 1
    return maps.argmax(1)


def counted(winners: Tensor, classes: int) -> Tensor:
    """How many positions each class has, `[N, K]`; negative ones do not count."""
    images = winners.flatten(1)
    rows = [torch.bincount(one[one >= 0], minlength=classes) for one in images.unbind()]
    return torch.stack(rows) if rows else winners.new_zeros(0, classes)


def at_place(maps: Tensor, place: tuple[int, ...]) -> Tensor:
    """Class scores `[M, K]` at one position, slowest axis first."""
    index: tuple[slice | int, ...] = (slice(None), slice(None), *place)
    return maps[index]


def scored(maps: Tensor, of: Of) -> Tensor:
    """Logits or probabilities of the classes `[M, K, ...]`, in float32 or better."""
    maps = at_least_float(maps)
    if of == "logit":
        return maps
    return maps.sigmoid() if maps.shape[1] == 1 else maps.softmax(1)


def example_maps() -> Tensor:
    """Scores `[4, 5, 3, 4]`, for conformance checks."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, 5, 3, 4, generator=generator, dtype=torch.float64)
