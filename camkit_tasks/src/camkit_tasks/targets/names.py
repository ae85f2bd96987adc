"""Classes by what people call them: index, WordNet id, name, or one of its synonyms."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from camkit_core import TargetContext, TargetError, near

_WORDNET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"[+-]?\d*\.?\d+")
_Words = tuple[str, ...]
_Fits = Callable[[_Words, str], int]
"""How well a name (second) fits the words that were written (first); 0 if it does not."""


def class_index(written: str, context: TargetContext) -> int | None:
    """The class that is meant, None if there is none of that name.

    Names are compared word by word, whatever the case. A whole name goes before one of its comma
    separated synonyms, before names in which the words occur ("tiger" in "tiger cat"), before
    names that begin or end the words ("tabby" in "tabby cat").

    Raises:
        TargetError: several classes fit equally well, a WordNet id is not known, or it is a number
            that counts nothing.
    """
    written = written.strip()
    if re.fullmatch(r"[0-9]+", written):
        return int(written)
    if _WORDNET.fullmatch(written):
        return _by_id(written, _ids(context))
    if _NUMBER.fullmatch(written):
        return _by_digits(written, context.class_names)
    wanted = _words(written)
    for fits in (_whole, _synonym, _inside, _around):
        found = _best(wanted, context.class_names, fits) if wanted else []
        if len(found) > 1:
            raise TargetError(f"class {written!r} could be {_listed(found, context.class_names)}")
        if found:
            return found[0]
    return None


def class_given(written: str, request: str, context: TargetContext) -> int | None:
    """The class in `request` that is written there; None for `pred`, or nothing: the model's own.

    Raises:
        TargetError: there is no such class; the message has near misses.
    """
    if written.strip() in ("", "pred"):
        return None
    index = class_index(written, context)
    if index is not None:
        return index
    names = context.class_names
    synonyms = [one.strip() for name in names for one in name.split(",")]
    known = near(written.strip(), synonyms) if names else "; this model's class names are not known"
    raise TargetError(
        f"target={request!r}: no class is called {written.strip()!r}{known}; give an index, a "
        "name, a WordNet id such as n02123045, or pred for the predicted class"
    )


def _ids(context: TargetContext) -> Sequence[str]:
    return context.loaded.class_ids if context.loaded else ()


def _by_id(written: str, ids: Sequence[str]) -> int:
    if written in ids:
        return ids.index(written)
    why = "has no class of that id" if ids else "does not come with WordNet ids"
    raise TargetError(f"target={written!r} is a WordNet id, but the model {why}; pass an index")


def _by_digits(written: str, names: Sequence[str]) -> int:
    """A class that is called by that very number; by its words, -1 would be the class 1."""
    if written in names:
        return list(names).index(written)
    last = f"..{len(names) - 1}" if names else ", 1, 2, ..."
    raise TargetError(
        f"target={written!r}: no class is called {written!r}, and classes are counted from the "
        f"first, 0{last}, not from the last or by fractions; give such an index, or a name"
    )


def _best(wanted: _Words, names: Sequence[str], fits: _Fits) -> list[int]:
    """Indices of the names that fit best."""
    scores = [fits(wanted, name) for name in names]
    most = max(scores, default=0)
    return [index for index, score in enumerate(scores) if most and score == most]


def _whole(wanted: _Words, name: str) -> int:
    return int(_words(name) == wanted)


def _synonym(wanted: _Words, name: str) -> int:
    return int(wanted in _synonyms(name))


def _inside(wanted: _Words, name: str) -> int:
    size = len(wanted)
    parts = (one[at : at + size] for one in _synonyms(name) for at in range(len(one)))
    return int(wanted in parts)


def _around(wanted: _Words, name: str) -> int:
    return max(_length_around(wanted, one) for one in _synonyms(name))


def _length_around(wanted: _Words, name: _Words) -> int:
    ends = (wanted[: len(name)], wanted[len(wanted) - len(name) :])
    return len(name) if len(name) < len(wanted) and name in ends else 0


def _synonyms(name: str) -> list[_Words]:
    """Words of every synonym."""
    return [_words(one) for one in name.split(",")]


def _words(text: str) -> _Words:
    return tuple(re.findall(r"[^\W_]+", text.lower()))


def _listed(found: Sequence[int], names: Sequence[str]) -> str:
    shown = [f"{index} ({names[index]})" for index in found[:6]]
    more = f" or one of {len(found) - 6} more" if len(found) > 6 else ""
    return f"{' or '.join(shown)}{more}; pass the index"
