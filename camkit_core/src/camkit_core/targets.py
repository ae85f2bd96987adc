"""What can be explained without any plugin: classes, functions, one target per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from camkit_core.errors import TargetError
from camkit_core.outputs import class_scores
from camkit_core.protocols import BoundTarget, Runner, Target, TargetInfo
from camkit_core.tree import describe, take, take_one, tensors


def choose_classes(
    scores: Tensor, requested: int | Sequence[int] | Tensor | None, rank: int = 0
) -> Tensor:
    """Class index per image `[N]`: the requested one, or the one at `rank` of the prediction.

    Raises:
        TargetError: out of range, not an integer, or the wrong number of classes.
    """
    images, classes = scores.shape
    if requested is None:
        return _predicted(scores, rank)
    given = requested.tolist() if isinstance(requested, Tensor) else requested
    chosen = [given] * images if isinstance(given, int) else list(given)
    if len(chosen) != images:
        raise TargetError(count_error(len(chosen), images))
    for index in chosen:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TargetError(f"class {index!r} must be an integer in 0..{classes - 1}")
        if not 0 <= index < classes:
            raise TargetError(
                f"class {index} is out of range: the model has classes 0..{classes - 1}"
            )
    return torch.tensor(chosen, dtype=torch.long, device=scores.device)


def _predicted(scores: Tensor, rank: int) -> Tensor:
    classes = scores.shape[1]
    if classes < 2:
        raise TargetError(
            f"the model returns {list(scores.shape)}: with one output there is no predicted class; "
            "pass target=0 to explain that output, or 'binary' for the side it is on"
        )
    if rank >= classes:
        raise TargetError(f"rank {rank + 1} was asked for, but the model has {classes} classes")
    if rank == 0:
        return scores.detach().argmax(dim=1)
    # Not topk: where scores are equal it may order them differently for another rank.
    return scores.detach().sort(dim=1, descending=True, stable=True).indices[:, rank]


def count_error(given: int, images: int) -> str:
    """What to say when the number of targets is not that of the images."""
    return f"{given} targets for {images} images: pass one target for all, or {images}"


@dataclass(frozen=True)
class ClassTarget:
    """The logit of a class: given, or the model's own answer (`rank` 0 is its first choice)."""

    class_index: int | tuple[int, ...] | None = None
    rank: int = 0

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image on the clean output."""
        return BoundClass(choose_classes(class_scores(output), self.class_index, self.rank))


@dataclass(frozen=True)
class BoundClass:
    """One class per image."""

    classes: Tensor  # [N]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Logits `[M]`."""
        scores = class_scores(output)
        return scores.gather(1, self.classes.to(scores.device)[owner, None])[:, 0]

    def describe(self) -> TargetInfo:
        """The classes."""
        labels = tuple(f"class {index}" for index in self.classes.tolist())
        label = ", ".join(dict.fromkeys(labels))
        return TargetInfo(kind="class", label=label, classes=self.classes, labels=labels)


@dataclass(frozen=True)
class BoundNothing:
    """No target: for methods that do not look at the score, on models without class scores."""

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """NaN for every row."""
        return torch.full((len(owner),), torch.nan, device=owner.device)

    def describe(self) -> TargetInfo:
        """Nothing."""
        return TargetInfo(kind="none", label="no target", differentiable=False)


@dataclass(frozen=True)
class CallableTarget:
    """Any function of one image's output that returns a scalar tensor."""

    function: Callable[[Any], Tensor]

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Nothing to settle."""
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`, one call per row.

        Raises:
            TargetError: the function finds nothing where it looks, or returns no scalar tensor.
        """
        rows = range(len(owner))
        values = [self._one(take_one(output, row, len(owner)), owner[row]) for row in rows]
        return torch.stack(values) if values else tensors(output)[0].new_zeros(0)

    def _one(self, output: Any, image: Tensor) -> Tensor:
        try:
            value = self.function(output)
        except (LookupError, AttributeError, TypeError) as error:
            raise TargetError(
                f"target function {self._name} does not fit the output of image {int(image)}, "
                f"{describe(output)}: {type(error).__name__}: {' '.join(str(error).split())}; it "
                "gets the output of one image, without the batch axis: correct the index, key or "
                "attribute it reads"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = describe(value) if isinstance(value, Tensor) else repr(value)
            raise TargetError(
                f"target function {self._name} returned {what} for image {int(image)}; it must "
                "return a scalar tensor, computed from that image's output with differentiable "
                "operations"
            )
        return value.reshape(())

    def describe(self) -> TargetInfo:
        """The function's name."""
        return TargetInfo(kind="function", label=self._name)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


@dataclass(frozen=True)
class PerImageTarget:
    """One target per image, each of which sees its own image only."""

    targets: tuple[Target, ...]

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Bind every target on the clean output of its image."""
        images = len(self.targets)
        rows = torch.arange(images).split(1)
        return BoundPerImage(
            tuple(
                target.bind(take(output, row, images), run)
                for target, row in zip(self.targets, rows, strict=True)
            )
        )


@dataclass(frozen=True)
class BoundPerImage:
    """One bound target per image, bound on that image alone; each sees only the rows of it."""

    targets: tuple[BoundTarget, ...]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        found: list[Tensor] = []
        order: list[Tensor] = []
        for image, target in enumerate(self.targets):
            rows = (owner == image).nonzero()[:, 0]
            found.append(target(take(output, rows, len(owner)), torch.zeros_like(rows)))
            order.append(rows)
        values = torch.cat(found)
        return values[torch.cat(order).argsort()]

    def describe(self) -> TargetInfo:
        """All of them, and the classes if all are class targets."""
        infos = [target.describe() for target in self.targets]
        labels = tuple(info.label for info in infos)
        known = [info.classes for info in infos if info.classes is not None]
        return TargetInfo(
            kind="per image",
            label=", ".join(dict.fromkeys(labels)),
            labels=labels,
            classes=torch.cat(known) if known and len(known) == len(infos) else None,
            differentiable=all(info.differentiable for info in infos),
            boxes=_side_by_side([info.boxes for info in infos]),
            absent=tuple(image for image, info in enumerate(infos) if info.absent),
            issues=tuple(
                replace(issue, images=(image,))
                for image, info in enumerate(infos)
                for issue in info.issues
            ),
        )

    @property
    def similarity(self) -> BoundPerImage:
        """What D-RISE asks of a detection target; absent where one of the targets is no detection.

        Raises:
            AttributeError: a target has no such view.
        """
        views: tuple[Any, ...] = self.targets
        return BoundPerImage(tuple(view.similarity for view in views))


def _side_by_side(boxes: Sequence[Tensor | None]) -> Tensor | None:
    """Boxes of single images `[1, P, 4]` as `[N, P, 4]`, filled up with NaN."""
    known = [one for one in boxes if one is not None]
    if not known:
        return None
    most = max(one.shape[1] for one in known)
    none = known[0].new_full((1, 0, 4), torch.nan)
    rows = [none if one is None else one for one in boxes]
    return torch.cat([pad(one, (0, 0, 0, most - one.shape[1]), value=torch.nan) for one in rows])
