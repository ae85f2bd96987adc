"""From the words of the command line to what `camkit_core.compare` takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from camkit.cli.errors import Usage
from camkit_core import near

if TYPE_CHECKING:
    from camkit_core import Registry

DEFAULT_FORMATS = ("png", "safetensors")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One target: how it was asked for, and the request the engine takes."""

    word: str
    request: Any


def method_specs(
    given: Sequence[str], default: Sequence[str], registry: Registry
) -> tuple[str, ...]:
    """Method specifications in the order given, each once; names and options are right.

    Raises:
        UnknownNameError: no installed package offers a method of that name.
        OptionError: a method has no such option, or the option no such value.
        PluginError: a method cannot be imported.
    """
    from camkit_core import method_of

    specs = [spec for text in given for spec in split_methods(text)] or list(default)
    for spec in specs:
        method_of(spec, registry)
    return tuple(dict.fromkeys(specs))


def split_methods(text: str) -> Iterator[str]:
    """`"a,b:x=1,y=2,c"` to `"a"`, `"b:x=1,y=2"`, `"c"`: a piece `name=value` is an option."""
    spec = ""
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        head, colon, _ = piece.partition(":")
        is_option = "=" in (head if colon else piece)
        if is_option and spec:
            spec = f"{spec},{piece}"
            continue
        if spec:
            yield spec
        spec = piece
    if spec:
        yield spec


def targets(given: Sequence[str]) -> tuple[Wanted, ...]:
    """Targets in the order given, `topK` spread into K.

    Raises:
        Usage: an empty target, or `top0`.
    """
    words = list(dict.fromkeys(word.strip() for word in given)) or ["pred"]
    return tuple(wanted for word in words for wanted in _spread(word))


def _spread(word: str) -> Iterator[Wanted]:
    top = re.fullmatch(r"top(\d+)", word)
    if not word or (top and not int(top[1])):
        raise Usage(
            f"--target {word!r}: give pred, top3, a class number or name, or what camkit targets "
            "lists"
        )
    if top:
        for rank in range(int(top[1])):
            yield Wanted(f"{word} #{rank + 1}", f"pred:{rank}")
    else:
        yield Wanted(word, int(word) if re.fullmatch(r"[+-]?\d+", word) else word)


def layers(given: Sequence[str]) -> tuple[str, ...] | None:
    """Layer names, or None to let the engine find one."""
    return tuple(name for text in given for name in _pieces(text)) or None


def formats(given: Sequence[str], registry: Registry) -> tuple[str, ...]:
    """File suffixes without the dot; pictures come first.

    Raises:
        Usage: no writer is called so.
        UnknownNameError: the writer is not installed.
    """
    names = [name.removeprefix(".").lower() for text in given for name in _pieces(text)]
    for name in names or DEFAULT_FORMATS:
        known = [end.removeprefix(".") for e in registry.entries("writer") for end in e.suffixes]
        if known and name not in known:
            hint = near(name, known) or f"; choose from {', '.join(sorted(known))}"
            raise Usage(f"--format {name!r} is not written by any installed package{hint}")
        registry.writer_for(f".{name}")
    return tuple(sorted(dict.fromkeys(names or DEFAULT_FORMATS), key=lambda name: name != "png"))


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]
