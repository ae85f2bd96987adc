"""From what a user says is to be explained to a target, and back to words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from camkit_core.errors import TargetError
from camkit_core.outputs import class_scores
from camkit_core.protocols import Target, TargetContext, TargetInfo
from camkit_core.registry import near
from camkit_core.targets import CallableTarget, ClassTarget, PerImageTarget, count_error

if TYPE_CHECKING:
    from camkit_core.registry import Registry

TargetRequest = Any
"""None, "pred", a class index or name, a list (one per image), a function, or a `Target`."""

_RANK = re.compile(r"pred(?::(\d+))?")
_CLASS = re.compile(r'"[^"]*"|\bclass (\d+)\b')


def as_target(
    request: TargetRequest, output: Any, registry: Registry, context: TargetContext
) -> Target:
    """The target a user means, for the clean `output` of `context.image`.

    Raises:
        TargetError: not understood, unknown class name, or the wrong number of targets.
    """
    request = _plain(request)
    rank = rank_of(request)
    if rank is not None:
        return _answer(rank, output, registry, context)
    if isinstance(request, bool | float):
        raise TargetError(
            f"target={request!r}: a class index is an integer, not {type(request).__name__}"
        )
    if isinstance(request, int):
        return _of_class(request, output, registry, context)
    if isinstance(request, type):
        raise TargetError(
            f"target={request.__name__} is a class, not a target; did you forget the parentheses?"
        )
    if isinstance(request, Target):
        return request
    if isinstance(request, list | tuple | range):
        return _per_image(request, output, registry, context)
    if isinstance(request, str):
        return _by_word(request, output, registry, context)
    known = registry.target_for(request, output, context)
    if known is not None:
        return known
    if callable(request):
        return CallableTarget(request)
    raise TargetError(
        f"target={request!r} is not understood: give a class index, a class name, a list with one "
        "per image, a function of one image's output, or a Target"
    )


def rank_of(request: TargetRequest) -> int | None:
    """R of the model's answer of rank R (`None` and `"pred"` are its first), else None."""
    if request is None:
        return 0
    found = _RANK.fullmatch(request.strip()) if isinstance(request, str) else None
    return int(found[1] or 0) if found else None


def top(word: str) -> int | None:
    """K for `"topK"`, else None."""
    digits = word.removeprefix("top")
    return int(digits) if word.startswith("top") and digits.isdigit() and int(digits) else None


def expand_targets(requests: Any) -> list[TargetRequest]:
    """The targets of a comparison: a list of requests, with `"topK"` spread into K ranks."""
    requests = _plain(requests)
    if not isinstance(requests, list | tuple | range):
        requests = [requests]
    spread: list[TargetRequest] = []
    for request in requests:
        ranks = top(request) if isinstance(request, str) else None
        spread.extend([f"pred:{rank}" for rank in range(ranks)] if ranks else [request])
    if not spread:
        raise TargetError("targets=[] is empty: pass at least one, or None for the predicted class")
    return spread


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


def named(info: TargetInfo, class_names: Sequence[str]) -> TargetInfo:
    """The description with class names in place of `class K`.

    A label that is nothing but a class gets the whole name, others the first of its synonyms.
    What stands in double quotes is the user's own text and stays.
    """
    if not class_names:
        return info
    labels = tuple(_with_names(label, class_names) for label in info.labels)
    joined = info.labels and info.label == ", ".join(dict.fromkeys(info.labels))
    label = ", ".join(dict.fromkeys(labels)) if joined else _with_names(info.label, class_names)
    return dataclasses.replace(info, labels=labels, label=label)


def _with_names(label: str, class_names: Sequence[str]) -> str:
    def name(found: re.Match[str]) -> str:
        if found[1] is None or int(found[1]) >= len(class_names):
            return found[0]
        whole = class_names[int(found[1])]
        return whole if found[0] == label else whole.partition(",")[0]

    return _CLASS.sub(name, label)


def _plain(request: TargetRequest) -> TargetRequest:
    """Numbers and lists of them out of tensors and arrays."""
    if hasattr(request, "tolist") and getattr(request, "ndim", 2) <= 1:
        return request.tolist()
    return request


def _has_classes(output: Any) -> bool:
    try:
        class_scores(output)
    except TargetError:
        return False
    return True


def _answer(rank: int, output: Any, registry: Registry, context: TargetContext) -> Target:
    """The model's own answer, which on outputs without class scores only plugins understand."""
    request = f"pred:{rank}" if rank else "pred"
    if getattr(context.model, "num_classes", None) == 0 and isinstance(output, Tensor):
        # timm's word for a network without a head: its numbers are features, not classes.
        output = {"embeddings": output}
    known = None if _has_classes(output) else registry.target_for(request, output, context)
    return known or ClassTarget(rank=rank)


def _of_class(index: int, output: Any, registry: Registry, context: TargetContext) -> Target:
    """A class, which on outputs without class scores only plugins know where to find."""
    known = None if _has_classes(output) else registry.target_for(index, output, context)
    return known or ClassTarget(index)


def _per_image(
    requests: Sequence[Any], output: Any, registry: Registry, context: TargetContext
) -> Target:
    images = len(context.image)
    if len(requests) != images:
        raise TargetError(count_error(len(requests), images))
    targets = tuple(as_target(one, output, registry, context) for one in requests)
    given = [one.class_index for one in targets if isinstance(one, ClassTarget)]
    classes = tuple(index for index in given if isinstance(index, int))
    return ClassTarget(classes) if len(classes) == images else PerImageTarget(targets)


def _by_word(word: str, output: Any, registry: Registry, context: TargetContext) -> Target:
    found = find_class(word, context.class_names)
    if found is None and re.fullmatch(r"[0-9]+", word.strip()):
        found = int(word)
    if found is not None:
        return _of_class(found, output, registry, context)
    rank = top(word)
    if rank is not None:
        raise TargetError(
            f"target={word!r} means {rank} targets; use compare(..., targets={word!r}), or pass "
            "'pred' for the first"
        )
    known = registry.target_for(word, output, context)
    if known is not None:
        return known
    raise TargetError(_unknown(word, registry, context.class_names))


def _unknown(word: str, registry: Registry, class_names: Sequence[str]) -> str:
    """Why nobody understands a word, with near misses among classes and target names."""
    head = word.partition(":")[0].strip()
    missing = registry.missing("target", head)
    forms = sorted(entry.name for entry in registry.entries("target"))
    meant = near(head, forms) if head not in forms else ""
    listed = f"; besides classes there are the targets {', '.join(forms)}" if forms else ""
    if not class_names and not meant:
        return (
            f"target={word!r}: this model's class names are not known; pass a class index, or a "
            f"model loaded with camkit.load_model(...){listed}{missing}"
        )
    return f"no class is called {word!r}{_near_class(word, class_names) or meant}{listed}{missing}"


def _near_class(word: str, class_names: Sequence[str]) -> str:
    """Class names that contain the word, before those that are spelled alike."""
    inside = [name for name in class_names if word.strip().lower() in name.lower()][:3]
    quoted = " or ".join(map(repr, inside))
    synonyms = [one.strip() for name in class_names for one in name.split(",")]
    return f"; did you mean {quoted}?" if inside else near(word, [*class_names, *synonyms])
