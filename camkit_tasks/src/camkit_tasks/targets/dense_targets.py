"""Targets of dense predictions, class scores `[N, K, *S]` at every position: segmentation.

The class of every image and the positions that count are fixed on the clean output; the score is
the sum of the class's scores there (as in grad-cam's `SemanticSegmentationTarget`), or their mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import BoundTarget, Runner, TargetError, TargetInfo, choose_classes
from camkit_tasks.targets.dense_read import (
    Of,
    at_place,
    counted,
    dense_maps,
    example_maps,
    predicted,
    scored,
)
from camkit_tasks.targets.labels import class_label, described
from camkit_tasks.targets.scores import pick

Reduce = Literal["sum", "mean"]


@dataclass(frozen=True)
class _Dense:
    """Options of all targets of dense predictions.

    Attributes:
        class_index: one class for all images, one per image, or None to find out.
        of: the class's logit, or its probability among the classes of a position.
    """

    class_index: int | tuple[int, ...] | None = None
    of: Of = "logit"

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            TargetError: an unknown word.
        """
        if self.of not in get_args(Of):
            raise TargetError(f"of={self.of!r}: choose 'logit' or 'probability'")


@dataclass(frozen=True)
class _Area(_Dense):
    """Options of targets that sum over positions.

    Attributes:
        reduce: the sum over the positions, or their mean, which does not grow with the area.
    """

    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            TargetError: an unknown word.
        """
        super().__post_init__()
        if self.reduce not in get_args(Reduce):
            raise TargetError(f"reduce={self.reduce!r}: choose 'sum' or 'mean'")


@dataclass(frozen=True)
class ClassMask(_Area):
    """A class where the model predicts it: the argmax mask of the clean output, frozen.

    Attributes:
        class_index: see `_Dense`; None for the class predicted at most positions, or
        rank: at the next most.
        class_names: for error messages.
    """

    rank: int = 0
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix class and mask of every image.

        Raises:
            TargetError: the class is predicted nowhere; the message has those that are.
        """
        maps = dense_maps(output).detach()
        winners = predicted(maps)
        counts = counted(winners, maps.shape[1])
        classes = self._ranked(counts) if self.class_index is None else self._given(counts)
        masks = winners == classes.reshape(-1, *(1,) * (winners.ndim - 1))
        labels = [f"{class_label(index)} where predicted" for index in classes.tolist()]
        return BoundArea("mask", classes, masks, tuple(labels), self.of, self.reduce)

    def _ranked(self, counts: Tensor) -> Tensor:
        order = counts.sort(dim=1, descending=True, stable=True).indices
        for row, present in enumerate((counts > 0).sum(1).tolist()):
            if self.rank >= present:
                raise TargetError(
                    f"image {row}: the predicted class of rank {self.rank + 1} was asked for, but "
                    f"there are {present}: {self._present(counts[row])}"
                )
        return order[:, self.rank]

    def _given(self, counts: Tensor) -> Tensor:
        classes = choose_classes(counts, self.class_index)
        for row, index in enumerate(classes.tolist()):
            if not counts[row, index]:
                raise TargetError(
                    f"class {self._named(index)} is predicted nowhere in image {row}, where the "
                    f"classes are {self._present(counts[row])}; to explain it all the same say "
                    f"where: region:FILE,class={index} or pixel:X,Y,class={index}"
                )
        return classes

    def _present(self, counts: Tensor) -> str:
        found = counts.nonzero()[:, 0].tolist()
        return ", ".join(map(self._named, found)) or "none"

    def _named(self, index: int) -> str:
        names = self.class_names
        return f"{index} ({names[index]})" if index < len(names) else str(index)

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A target and a clean output for it, for conformance checks."""
        return cls(), example_maps()


@dataclass(frozen=True, eq=False)
class Region(_Area):
    """A class in a given region, whatever is predicted there.

    Attributes:
        mask: `[*S]` or `[N, *S]`, of any resolution (brought to the output's by nearest
            neighbours): true where positions count, or a weight for each. Shows the image as the
            model gets it. None is everywhere.
        called: what labels call the region.
        class_index: see `_Dense`; None for the class predicted at most positions in the region.
    """

    mask: Any = None
    called: str = "the given region"

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix class and weights of every image.

        Raises:
            TargetError: the mask does not fit the output, or is empty.
        """
        maps = dense_maps(output).detach()
        weights = self._weights(maps)
        classes = self._classes(maps, weights)
        where = "everywhere" if self.mask is None else f"in {self.called}"
        labels = [f"{class_label(index)} {where}" for index in classes.tolist()]
        return BoundArea("region", classes, weights, tuple(labels), self.of, self.reduce)

    def _weights(self, maps: Tensor) -> Tensor:
        size = maps.shape[2:]
        if self.mask is None:
            return torch.ones_like(maps[:, 0])
        mask = torch.as_tensor(self.mask, device=maps.device)
        if mask.ndim not in (len(size), len(size) + 1):
            raise TargetError(
                f"{self.called} is {list(mask.shape)}, but a mask for the output "
                f"{list(maps.shape)} has {len(size)} axes, or {len(size) + 1} with one mask per "
                "image"
            )
        batch = mask if mask.ndim > len(size) else mask[None]
        if len(batch) not in (1, len(maps)):
            raise TargetError(f"{len(batch)} masks for {len(maps)} images: pass one, or one each")
        weights = functional.interpolate(batch[:, None].to(maps), size=size, mode="nearest-exact")
        weights = weights[:, 0].expand(len(maps), *size)
        if not bool((weights != 0).flatten(1).any(1).all()):
            raise TargetError(
                f"{self.called} is empty at the resolution of the output, {list(size)}: no "
                "position is left to explain"
            )
        return weights

    def _classes(self, maps: Tensor, weights: Tensor) -> Tensor:
        winners = predicted(maps)
        counts = counted(winners.masked_fill(weights == 0, -1), maps.shape[1])
        if self.class_index is not None:
            return choose_classes(counts, self.class_index)
        return counts.argmax(1)

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A target and a clean output for it, for conformance checks."""
        mask = torch.zeros(6, 8)
        mask[1:3, 2:7] = 1
        return cls(mask=mask), example_maps()


@dataclass(frozen=True)
class Pixel(_Dense):
    """A class at one position.

    Attributes:
        class_index: see `_Dense`; None for the class predicted there.
        at: `(x, y)`, or `(x, y, z)` in a volume: in pixels of the image, the first at 0.
        size: of the image, `(H, W)` or `(D, H, W)`; None if that is the size of the output.
        said: the coordinates to show in labels, where they are others (of the photo, say).
    """

    at: tuple[float, ...] = (0, 0)
    size: tuple[int, ...] | None = None
    said: tuple[float, ...] | None = None

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Fix the class of every image.

        Raises:
            TargetError: the position is not in the image.
        """
        maps = dense_maps(output).detach()
        place = self._place(maps)
        scores = at_place(maps, place)
        alone = maps.shape[1] == 1 and self.class_index is None
        classes = choose_classes(scores, 0 if alone else self.class_index)
        where = _written(self.said or self.at)
        labels = [f"{class_label(index)} at pixel {where}" for index in classes.tolist()]
        return BoundPixel(classes, place, tuple(labels), self.of)

    def _place(self, maps: Tensor) -> tuple[int, ...]:
        """Index of the position in the output, slowest axis first."""
        output = tuple(maps.shape[2:])
        size = self.size or output
        if not len(self.at) == len(size) == len(output):
            raise TargetError(
                f"pixel {_written(self.at)}: a position in the output {list(maps.shape)} has "
                f"{len(output)} coordinates, x first"
            )
        inside = all(0 <= one < full for one, full in zip(self.at, reversed(size), strict=True))
        if not inside:
            extent = " x ".join(map(str, reversed(size)))
            raise TargetError(f"pixel {_written(self.at)} is not in the image of {extent} pixels")
        axes = zip(reversed(self.at), output, size, strict=True)
        return tuple(min(int((one + 0.5) * cells / full), cells - 1) for one, cells, full in axes)

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A target and a clean output for it, for conformance checks."""
        return cls(at=(5, 2), size=(6, 8)), example_maps()


@dataclass(frozen=True)
class BoundArea:
    """A class and weighted positions per image, fixed."""

    kind: str
    chosen: Tensor  # [N]
    weights: Tensor  # [N, *S]
    labels: tuple[str, ...]
    of: Of
    reduce: Reduce

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        maps = scored(dense_maps(output), self.of)
        owner = owner.to(maps.device)
        mine = maps[torch.arange(len(maps), device=maps.device), self.chosen.to(maps.device)[owner]]
        weights = self.weights.to(maps)[owner]
        total = (mine * weights).flatten(1).sum(1)
        return total / weights.flatten(1).sum(1) if self.reduce == "mean" else total

    def describe(self) -> TargetInfo:
        """Classes and where."""
        return described(self.kind, self.labels, self.chosen)


@dataclass(frozen=True)
class BoundPixel:
    """A class per image at one place, fixed."""

    chosen: Tensor  # [N]
    place: tuple[int, ...]
    labels: tuple[str, ...]
    of: Of

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        scores = scored(at_place(dense_maps(output), self.place), self.of)
        return pick(scores, self.chosen.to(scores.device)[owner.to(scores.device)])

    def describe(self) -> TargetInfo:
        """Classes and where."""
        return described("pixel", self.labels, self.chosen)


def _written(at: tuple[float, ...]) -> str:
    return f"({', '.join(f'{one:g}' for one in at)})"
