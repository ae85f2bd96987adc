"""Which name a new plugin may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from camkit.cli.errors import Usage
from camkit_core import Registry

_SHAPE = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 40
_KINDS = ("method", "target", "reshape", "metric", "control")
_ALIKE = 0.85


@dataclass(frozen=True, slots=True)
class Name:
    """The four spellings of one name."""

    word: str  # of the method: sharp_cam

    @property
    def distribution(self) -> str:
        """On the package index, and the folder: `camkit-sharp-cam`."""
        return f"camkit-{self.word.replace('_', '-')}"

    @property
    def package(self) -> str:
        """What Python imports: `camkit_sharp_cam`."""
        return f"camkit_{self.word}"

    @property
    def title(self) -> str:
        """The class: `SharpCam`."""
        return "".join(part.capitalize() for part in self.word.split("_"))


def checked(text: str, registry: Registry) -> Name:
    """The name of a new plugin, written with or without `camkit-`.

    Raises:
        Usage: it is no name, or somebody has it or one that differs in hyphens only.
    """
    plain = re.sub(r"^camkit[-_]", "", text)
    if not _SHAPE.fullmatch(plain) or len(plain) > _LONGEST:
        raise Usage(
            f"{text!r} cannot be a plugin's name: lower-case letters and digits, beginning with a "
            f"letter, words joined by - or _, at most {_LONGEST} characters{_suggestion(text)}"
        )
    if plain.startswith("camkit"):
        raise Usage(f"{text!r}: camkit- is put in front of the name; leave it out")
    if plain.startswith("test"):
        raise Usage(f"{text!r}: pytest would take its class for a test; choose another name")
    name = Name(plain.replace("-", "_"))
    _refuse_taken(name, registry)
    return name


def close_names(name: Name, registry: Registry) -> list[str]:
    """Names that people will confuse with this one."""
    names = {known for kind in _KINDS for known in registry.names(kind)}
    return sorted(difflib.get_close_matches(name.word, names, n=3, cutoff=_ALIKE))


def _refuse_taken(name: Name, registry: Registry) -> None:
    if name.distribution in _distributions():
        raise Usage(f"{name.distribution} is a package already; choose another name")
    for kind in _KINDS:
        for known in sorted(registry.names(kind), key=lambda known: (known != name.word, known)):
            if _squeezed(known) == _squeezed(name.word):
                raise Usage(
                    f"{name.word!r} is taken: there is a {kind} {known!r}, and a second one would "
                    "make both ambiguous; choose another name"
                )


def _distributions() -> Iterator[str]:
    """Camkit's own packages, its extras spelled like packages, and whatever is installed."""
    yield from ("camkit-core", "camkit-example", "camkit-all")
    own = metadata.metadata("camkit")
    yield from (f"camkit-{extra}" for extra in own.get_all("Provides-Extra") or [])
    yield from (re.split(r"[^\w.-]", line)[0] for line in metadata.requires("camkit") or [])
    for dist in metadata.distributions():
        yield re.sub(r"[-_.]+", "-", dist.name or "").lower()


def _squeezed(name: str) -> str:
    return re.sub(r"[-_]", "", name)


def _suggestion(text: str) -> str:
    better = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-").removeprefix("camkit-")
    usable = _SHAPE.fullmatch(better) and len(better) <= _LONGEST
    return f"; how about {better!r}?" if usable else ""
