"""The shape of a target's words: `name:text,option=value,option=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from camkit_core import TargetError, near

Reader = Callable[[str], Any]
"""Turns the text of an option into its value; raises ValueError if it cannot."""


@dataclass(frozen=True)
class Words:
    """A request taken apart."""

    request: str
    name: str  # before the colon, or all of it
    text: str  # behind the colon, without the options
    options: Mapping[str, str] = field(default_factory=dict)

    def read(self, **readers: Reader) -> dict[str, Any]:
        """The options that were given, read.

        Raises:
            TargetError: an option that `name` does not have, or a value that does not fit.
        """
        return {option: self._read(option, said, readers) for option, said in self.options.items()}

    def _read(self, option: str, said: str, readers: Mapping[str, Reader]) -> Any:
        if option not in readers:
            known = f"; it has {', '.join(readers)}" if readers else "; it has none"
            raise TargetError(
                f"target={self.request!r}: {self.name} has no option {option!r}"
                f"{near(option, list(readers))}{known}"
            )
        try:
            return readers[option](said)
        except ValueError as error:
            raise TargetError(
                f"target={self.request!r}: {option}={said!r} is not understood: {error}"
            ) from error


def take_apart(request: str) -> Words:
    """Name, text and options; commas that separate no option belong to the text."""
    name, colon, rest = request.partition(":")
    return named_words(name.strip(), rest if colon else "", request)


def named_words(name: str, rest: str, request: str) -> Words:
    """As `take_apart`, for words whose name is known."""
    pieces = [piece.strip() for piece in rest.split(",")]
    options = dict(_option(piece) for piece in pieces if "=" in piece)
    text = ",".join(piece for piece in pieces if "=" not in piece)
    return Words(request, name, text, options)


def _option(piece: str) -> tuple[str, str]:
    option, _, said = piece.partition("=")
    return option.strip(), said.strip()


def one_of(*choices: str) -> Reader:
    """Reads one of a few words."""

    def read(said: str) -> str:
        if said not in choices:
            raise ValueError(f"choose {' or '.join(choices)}")
        return said

    return read


def number(said: str) -> float:
    """Reads a finite number."""
    found = float(said)
    if found - found != 0:
        raise ValueError("it must be finite")
    return found


def integer(said: str) -> int:
    """Reads an integer."""
    return int(said)
