"""What can be explained without any plugin: classes, functions, one request per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from camkit_core.errors import TargetError
from camkit_core.outputs import class_scores
from camkit_core.protocols import BoundTarget, Runner, Target, TargetInfo
from camkit_core.registry import near
from camkit_core.tree import describe, take, take_one, tensors

if TYPE_CHECKING:
    from camkit_core.registry import Registry

TargetRequest = Any
"""None, "pred", a class index or name, a list (one per image), a function, or a `Target`."""


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
        raise TargetError(_count(len(chosen), images))
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
            "pass target=0 to explain that output"
        )
    if rank >= classes:
        raise TargetError(f"rank {rank + 1} was asked for, but the model has {classes} classes")
    if rank == 0:
        return scores.detach().argmax(dim=1)
    # Not topk: where scores are equal it may order them differently for another rank.
    return scores.detach().sort(dim=1, descending=True, stable=True).indices[:, rank]


def _count(given: int, images: int) -> str:
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
        """Scores `[M]`, one call per row."""
        values = [self._one(take_one(output, row, len(owner)), row) for row in range(len(owner))]
        return torch.stack(values) if values else tensors(output)[0].new_zeros(0)

    def _one(self, output: Any, row: int) -> Tensor:
        value = self.function(output)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = describe(value) if isinstance(value, Tensor) else repr(value)
            raise TargetError(
                f"target function {self._name} returned {what} for image {row}; it must return a "
                "scalar tensor, computed from that image's output with differentiable operations"
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
    """One target per image."""

    targets: tuple[Target, ...]

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Bind every target on the whole clean output."""
        return BoundPerImage(tuple(target.bind(output, run) for target in self.targets))


@dataclass(frozen=True)
class BoundPerImage:
    """One bound target per image; each sees only the rows of its image."""

    targets: tuple[BoundTarget, ...]

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        found: list[Tensor] = []
        order: list[Tensor] = []
        for image, target in enumerate(self.targets):
            rows = (owner == image).nonzero()[:, 0]
            found.append(target(take(output, rows, len(owner)), owner[rows]))
            order.append(rows)
        values = torch.cat(found)
        return values[torch.cat(order).argsort()]

    def describe(self) -> TargetInfo:
        """All of them, and the classes if all are class targets."""
        infos = [target.describe() for target in self.targets]
        labels = tuple(
            info.labels[image] if info.labels else info.label for image, info in enumerate(infos)
        )
        classes = [info.classes for info in infos]
        known = [c[image] for image, c in enumerate(classes) if c is not None]
        return TargetInfo(
            kind="per image",
            label=", ".join(dict.fromkeys(labels)),
            labels=labels,
            classes=torch.stack(known) if known and len(known) == len(infos) else None,
            differentiable=all(info.differentiable for info in infos),
        )


def as_target(
    request: TargetRequest,
    output: Any,
    images: int,
    registry: Registry,
    class_names: Sequence[str] = (),
) -> Target:
    """The target a user means.

    Raises:
        TargetError: not understood, unknown class name, or the wrong number of targets.
    """
    request = _plain(request)
    if request is None or (isinstance(request, str) and request == "pred"):
        return ClassTarget()
    if isinstance(request, bool | float):
        raise TargetError(
            f"target={request!r}: a class index is an integer, not {type(request).__name__}"
        )
    if isinstance(request, int):
        return ClassTarget(request)
    if isinstance(request, type):
        raise TargetError(
            f"target={request.__name__} is a class, not a target; did you forget the parentheses?"
        )
    if isinstance(request, Target):
        return request
    if isinstance(request, list | tuple | range):
        return _per_image(request, output, images, registry, class_names)
    if isinstance(request, str):
        return _by_word(request, output, registry, class_names)
    known = registry.target_for(request, output)
    if known is not None:
        return known
    if callable(request):
        return CallableTarget(request)
    raise TargetError(
        f"target={request!r} is not understood: give a class index, a class name, a list with one "
        "per image, a function of one image's output, or a Target"
    )


def _plain(request: TargetRequest) -> TargetRequest:
    """Numbers and lists of them out of tensors and arrays."""
    if hasattr(request, "tolist") and getattr(request, "ndim", 2) <= 1:
        return request.tolist()
    return request


def _per_image(
    requests: Sequence[Any],
    output: Any,
    images: int,
    registry: Registry,
    class_names: Sequence[str],
) -> Target:
    if len(requests) != images:
        raise TargetError(_count(len(requests), images))
    if all(isinstance(request, int) and not isinstance(request, bool) for request in requests):
        return ClassTarget(tuple(requests))
    return PerImageTarget(
        tuple(as_target(one, output, images, registry, class_names) for one in requests)
    )


def _by_word(word: str, output: Any, registry: Registry, class_names: Sequence[str]) -> Target:
    found = find_class(word, class_names)
    if found is not None:
        return ClassTarget(found)
    if word.isdigit():
        return ClassTarget(int(word))
    rank = top(word)
    if rank is not None:
        raise TargetError(
            f"target={word!r} means {rank} targets; use compare(..., targets={word!r}), or pass "
            "'pred' for the first"
        )
    known = registry.target_for(word, output)
    if known is not None:
        return known
    missing = registry.missing("target", word.partition(":")[0])
    if not class_names:
        raise TargetError(
            f"target={word!r}: this model's class names are not known; pass a class index, or a "
            f"model loaded with camkit.load_model(...){missing}"
        )
    raise TargetError(f"no class is called {word!r}{_near_class(word, class_names)}{missing}")


def _near_class(word: str, class_names: Sequence[str]) -> str:
    """Class names that contain the word, before those that are spelled alike."""
    inside = [name for name in class_names if word.strip().lower() in name.lower()][:3]
    quoted = " or ".join(map(repr, inside))
    return f"; did you mean {quoted}?" if inside else near(word, class_names)


def top(word: str) -> int | None:
    """K for `"topK"`, else None."""
    digits = word.removeprefix("top")
    return int(digits) if word.startswith("top") and digits.isdigit() and int(digits) else None


def find_class(name: str, class_names: Sequence[str]) -> int | None:
    """Index of a class name, ignoring case; None if there is none.

    Raises:
        TargetError: several classes have that name.
    """
    wanted = name.strip().lower()
    found = [index for index, known in enumerate(class_names) if known.strip().lower() == wanted]
    if len(found) > 1:
        raise TargetError(f"several classes are called {name!r}: pass one of the indices {found}")
    return found[0] if found else None


def expand_targets(requests: Any) -> list[TargetRequest]:
    """The targets of a comparison: a list of requests, with `"topK"` spread into K ranks."""
    requests = _plain(requests)
    if not isinstance(requests, list | tuple | range):
        requests = [requests]
    spread: list[TargetRequest] = []
    for request in requests:
        ranks = top(request) if isinstance(request, str) else None
        spread.extend([ClassTarget(rank=r) for r in range(ranks)] if ranks else [request])
    if not spread:
        raise TargetError("targets=[] is empty: pass at least one, or None for the predicted class")
    return spread
