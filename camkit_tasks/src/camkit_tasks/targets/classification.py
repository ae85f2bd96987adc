"""Words for targets of classifiers: `281-vs-282`, `probability:281`, `labels:3,7`, `raw:3`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from camkit_core import ClassTarget, Target, TargetContext, TargetError, main_tensor
from camkit_tasks.targets.contrast import Finer
from camkit_tasks.targets.names import class_given
from camkit_tasks.targets.scores import (
    Counterfactual,
    LogProbability,
    Margin,
    Probability,
    Rest,
)
from camkit_tasks.targets.several import Labels
from camkit_tasks.targets.values import Binary, Raw, Value
from camkit_tasks.targets.words import Words, integer, named_words, number, one_of, take_apart

_VS = re.compile(r"(.+?)-vs-(.+)")
_SIDES = {"positive": True, "1": True, "negative": False, "0": False, "": None}

Builder = Callable[[Words, TargetContext], Target]


def from_words(request: str, output: Any, context: TargetContext) -> Target | None:
    """The target of a classifier, or of a model with a few numbers, that is named; else None.

    Raises:
        TargetError: understood, but wrong: an unknown class or option.
    """
    if re.fullmatch(r"[0-9]+", request):
        return _index(int(request), output)
    words = take_apart(request)
    if words.name in _BUILDERS:
        return _BUILDERS[words.name](words, context)
    if ":" in request:
        return None
    if "-vs-" in request:
        return _finer(named_words("finer", request, request), context)
    return None


def _index(index: int, output: Any) -> Target | None:
    """A class, or for models that return one number per image that number."""
    try:
        ndim = main_tensor(output).ndim
    except TargetError:
        return None
    return ClassTarget(index) if ndim == 2 else Value(index) if ndim == 1 else None


def _of_class(
    kind: Callable[..., Target], words: Words, context: TargetContext, **given: Any
) -> Target:
    options = words.read(class_index=integer)
    index = options.get("class_index", class_given(words.text, words.request, context))
    return kind(index, **given)


def _of_question(kind: Callable[..., Target], words: Words, context: TargetContext) -> Target:
    multi_label = context.loaded is not None and context.loaded.multi_label
    return _of_class(kind, words, context, multi_label=multi_label)


def _one_sided(words: Words) -> TargetError:
    side = "behind" if words.text.endswith("-vs-") else "before"
    return TargetError(
        f"target={words.request!r}: -vs- compares a class with others, but none is {side} it; "
        "say 281-vs-282, 281-vs-282,285, or finer:281 for the classes with the nearest scores"
    )


def _finer(words: Words, context: TargetContext) -> Target:
    options = words.read(variant=one_of("paper", "grad-cam"), strength=number, nearest=integer)
    split = _VS.fullmatch(words.text)
    if split is None and "-vs-" in words.text:
        raise _one_sided(words)
    if split is None:
        return Finer(class_given(words.text, words.request, context), **options)
    return Finer(
        class_given(split[1], words.request, context),
        against=_classes(split[2], words, context),
        **options,
    )


def _labels(words: Words, context: TargetContext) -> Target:
    words.read()
    return Labels(_classes(words.text, words, context) if words.text else None)


def _classes(text: str, words: Words, context: TargetContext) -> tuple[int, ...]:
    """Classes between commas."""
    given = [class_given(one, words.request, context) for one in text.split(",")]
    if None in given:
        raise TargetError(
            f"target={words.request!r}: each of {text!r} must be a class that is named or numbered"
        )
    return tuple(index for index in given if index is not None)


def _binary(words: Words, context: TargetContext) -> Target:
    words.read()
    if words.text not in _SIDES:
        raise TargetError(
            f"target={words.request!r}: a side is positive or negative (or 1 or 0), or nothing for "
            "the one the model is on"
        )
    return Binary(_SIDES[words.text])


def _value(words: Words, context: TargetContext) -> Target:
    indices = _integers(words, most=1)
    return Value(indices[0] if indices else 0, **words.read(at=number))


def _raw(words: Words, context: TargetContext) -> Target:
    words.read()
    return Raw(_integers(words))


def _integers(words: Words, most: int | None = None) -> tuple[int, ...]:
    pieces = [piece.strip() for piece in words.text.split(",")] if words.text else []
    if not all(re.fullmatch(r"[0-9]+", piece) for piece in pieces) or len(pieces) > (most or 99):
        wanted = "the index of an output" if most else "indices between commas"
        raise TargetError(f"target={words.request!r}: after {words.name}: comes {wanted}")
    return tuple(map(int, pieces))


_BUILDERS: dict[str, Builder] = {
    "logit": partial(_of_class, ClassTarget),
    "probability": partial(_of_question, Probability),
    "log_probability": partial(_of_question, LogProbability),
    "rest": partial(_of_question, Rest),
    "margin": partial(_of_class, Margin),
    "counterfactual": partial(_of_class, Counterfactual),
    "finer": _finer,
    "labels": _labels,
    "binary": _binary,
    "value": _value,
    "raw": _raw,
}
