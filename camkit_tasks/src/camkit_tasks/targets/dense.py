"""Words for targets of dense predictions: `mask:cat`, `pixel:120,88`, `region:mask.png`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from camkit_core import PerImageTarget, Target, TargetContext, TargetError, main_tensor
from camkit_tasks.targets.dense_targets import ClassMask, Pixel, Region
from camkit_tasks.targets.names import class_given
from camkit_tasks.targets.regions import on_input, pixel_on_input, read_mask
from camkit_tasks.targets.words import Reader, Words, number, one_of, take_apart

_PRED = re.compile(r"pred(?::(\d+))?")
_OF = one_of("logit", "probability")
_REDUCE = one_of("sum", "mean")
_CLASS: dict[str, Reader] = {"class": str}


def from_words(request: str, output: Any, context: TargetContext) -> Target | None:
    """The target of a dense prediction that is named; else None.

    A class index and `pred` are understood where the output is `[N, K, H, W]` or has more axes:
    with three it might as well be a list of boxes or tokens.

    Raises:
        TargetError: understood, but wrong: an unknown class or option, a mask without pixels.
    """
    words = take_apart(request)
    if words.name == "mask":
        options = words.read(of=_OF, reduce=_REDUCE)
        index = class_given(words.text, request, context)
        return ClassMask(index, class_names=context.class_names, **options)
    if words.name == "region":
        return _region(words, context)
    if words.name == "pixel":
        return _pixel(words, context)
    return _answer(request, output, context)


def _answer(request: str, output: Any, context: TargetContext) -> Target | None:
    rank = _PRED.fullmatch(request)
    is_index = re.fullmatch(r"[0-9]+", request)
    if not (rank or is_index) or not _is_dense(output):
        return None
    if rank:
        return ClassMask(rank=int(rank[1] or 0), class_names=context.class_names)
    return ClassMask(int(request), class_names=context.class_names)


def _is_dense(output: Any) -> bool:
    try:
        return main_tensor(output).ndim >= 4
    except TargetError:
        return False


def _region(words: Words, context: TargetContext) -> Target:
    options = words.read(**_CLASS, of=_OF, reduce=_REDUCE)
    index = class_given(options.pop("class", ""), words.request, context)
    if not words.text:
        raise TargetError(
            f"target={words.request!r}: after region: comes an image file, white on black"
        )
    path = Path(words.text).expanduser()
    name = f'"{path.name}"'
    mask = on_input(read_mask(path), context.pictures, name)
    return Region(index, mask=mask, called=name, **options)


def _pixel(words: Words, context: TargetContext) -> Target:
    options = words.read(**_CLASS, of=_OF)
    index = class_given(options.pop("class", ""), words.request, context)
    at = _coordinates(words)
    size = tuple(context.image.shape[2:])
    if not context.pictures:
        return Pixel(index, at=at, size=size, **options)
    places = [pixel_on_input(at, picture) for picture in context.pictures]
    pixels = [Pixel(index, at=place, size=size, said=at, **options) for place in places]
    return pixels[0] if len(set(places)) == 1 else PerImageTarget(tuple(pixels))


def _coordinates(words: Words) -> tuple[float, ...]:
    try:
        at = tuple(number(one) for one in words.text.split(","))
    except ValueError:
        at = ()
    if len(at) < 1:
        raise TargetError(
            f"target={words.request!r}: after pixel: come its coordinates, x first: pixel:120,88"
        )
    return at
