"""Finds plugins, keeps them apart, and answers lookups.

A plugin that fails is recorded as a `Problem` and never breaks another one.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from camkit_core.discovery import (
    IncompatibleError,
    Source,
    admit,
    checked_entries,
    contradictions,
    installed,
    listed,
    new_manager,
    normalize,
)
from camkit_core.entries import KINDS, Entry, PluginInfo, Problem, Status
from camkit_core.errors import (
    AmbiguousNameError,
    ModelError,
    OptionError,
    PluginError,
    UnknownNameError,
)
from camkit_core.known import KNOWN, OWNER

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from camkit_core.protocols import LoadedModel, Reshape, Target, TargetContext, Writer

_HEAVY = ("torch", "numpy")
"""Slow to import; a plugin that loads one of them while it is discovered is reported as heavy."""

_NO_FAMILIES = "nothing is installed that loads torchvision: or file.py:"


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """`"scorecam:normalize=none,k=3"` to `("scorecam", {"normalize": "none", "k": "3"})`.

    Raises:
        OptionError: an option is not of the form `name=value`, or is given twice.
    """
    name, _, rest = spec.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise OptionError(f"option {part!r} in {spec!r} must read name=value")
        if key in options:
            raise OptionError(f"option {key!r} is given twice in {spec!r}")
        options[key] = value
    return name.strip(), options


def near(name: str, names: Iterable[str]) -> str:
    """`"; did you mean 'a' or 'b'?"`, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in names}
    plain = name.lower().replace("++", "pp")
    found = difflib.get_close_matches(plain, lowered, n=3, cutoff=0.6)
    quoted = " or ".join(repr(lowered[match]) for match in found)
    return f"; did you mean {quoted}?" if quoted else ""


class Registry:
    """All plugins of this process.

    Args:
        allow: only these distributions are imported (default: `CAMKIT_PLUGINS_ALLOW`, else all).
        block: these are never imported (default: `CAMKIT_PLUGINS_BLOCK`).
        plugins: extra `(distribution, module)` pairs, for tests and applications.
        strict: raise on the first problem (default: `CAMKIT_STRICT_PLUGINS=1`).
        discover: read installed entry points.
    """

    def __init__(
        self,
        *,
        allow: Collection[str] | None = None,
        block: Collection[str] | None = None,
        plugins: Sequence[tuple[str, ModuleType]] = (),
        strict: bool | None = None,
        discover: bool = True,
    ) -> None:
        """Discover and register everything; import errors end up in `problems`."""
        self._allow = (
            listed("CAMKIT_PLUGINS_ALLOW") if allow is None else set(map(normalize, allow))
        )
        blocked = listed("CAMKIT_PLUGINS_BLOCK") if block is None else set(map(normalize, block))
        self._block = blocked or set()
        self._strict = os.environ.get("CAMKIT_STRICT_PLUGINS") == "1" if strict is None else strict
        self._manager = new_manager()
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        self._plugins: list[PluginInfo] = []
        self._problems: list[Problem] = []
        self._resolved: dict[tuple[str, str], Any] = {}
        given = [Source(name, "0", name, module) for name, module in plugins]
        for source in [*(installed() if discover else []), *given]:
            self._register(source)

    # -- what is there -----------------------------------------------------------------------

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plugin found, working or not."""
        return tuple(self._plugins)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why plugins or entries are missing."""
        return tuple(self._problems)

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """All entries, or those of one kind, sorted by name and distribution."""
        unique = {
            (entry.kind, entry.name, entry.distribution): entry
            for (entry_kind, _), offers in self._entries.items()
            if kind in (None, entry_kind)
            for entry in offers
        }
        return tuple(unique[key] for key in sorted(unique))

    def names(self, kind: str) -> frozenset[str]:
        """Names and aliases that are taken: offered now, or by a package of camkit's own."""
        offered = {name for entry_kind, name in self._entries if entry_kind == kind}
        return frozenset(offered | KNOWN.get(kind, {}).keys())

    @property
    def clashes(self) -> tuple[str, ...]:
        """Names that several distributions offer, each with the spellings that still work."""
        return tuple(
            f"{kind} {name!r} is offered by several plugins: use "
            + " or ".join(entry.qualified for entry in offers)
            for (kind, name), offers in sorted(self._entries.items())
            if len(offers) > 1
        )

    def has(self, kind: str, name: str) -> bool:
        """Whether `find` would succeed."""
        return len(self._offers(kind, name)) == 1

    def find(self, kind: str, name: str) -> Entry:
        """The one entry of that kind and name, alias or `distribution/name`.

        Raises:
            UnknownNameError: nobody offers it; the message has near misses and what to install.
            AmbiguousNameError: several do; the message lists the qualified names.
        """
        offers = self._offers(kind, name)
        if len(offers) == 1:
            return offers[0]
        if offers:
            choices = ", ".join(entry.qualified for entry in offers)
            raise AmbiguousNameError(
                f"{kind} {name!r} is offered by several plugins: use {choices}"
            )
        raise UnknownNameError(self._unknown(kind, name))

    def resolve(self, kind: str, name: str) -> Any:
        """The object behind an entry, imported now.

        Raises:
            PluginError: the import failed, or the object contradicts its entry.
        """
        entry = self.find(kind, name)
        key = (entry.kind, entry.qualified)
        if key not in self._resolved:
            self._resolved[key] = self._load(entry)
        return self._resolved[key]

    def missing(self, kind: str, name: str) -> str:
        """What to install for a name that nobody offers, and which plugins failed; else empty."""
        extra = None if self._offers(kind, name) else KNOWN.get(kind, {}).get(name)
        hint = f'; {name} comes with pip install "camkit[{extra}]"' if extra else ""
        for plugin in self._plugins:
            if extra and plugin.status == "blocked" and plugin.distribution == OWNER[extra]:
                hint += (
                    f" ({plugin.distribution} is installed, but blocked: see CAMKIT_PLUGINS_ALLOW "
                    "and CAMKIT_PLUGINS_BLOCK)"
                )
        return f"{hint}{self._quoted_problems()}"

    def writer_for(self, suffix: str) -> Writer:
        """The writer of files with that suffix.

        Raises:
            UnknownNameError: no installed package writes it.
        """
        for entry in self.entries("writer"):
            if suffix.lower() in entry.suffixes:
                writer: Writer = self.resolve("writer", entry.qualified)()
                return writer
        known = sorted(end for entry in self.entries("writer") for end in entry.suffixes)
        hint = f"known: {', '.join(known)}" if known else 'install "camkit[render]"'
        raise UnknownNameError(
            f"nothing installed writes {suffix or 'files without suffix'!r}; {hint}"
            f"{self._quoted_problems()}"
        )

    # -- behaviour hooks, typed --------------------------------------------------------------

    def load_model(self, spec: str) -> LoadedModel:
        """Model for a specification such as `torchvision:resnet50@none`.

        Raises:
            ModelError: no plugin knows that kind of specification, or loading failed.
        """
        model: LoadedModel | None = self._manager.hook.camkit_load_model(spec=spec)
        if model is None:
            families = [f"`{entry.summary}`" for entry in self.entries("model family")]
            known = "expected " + " or ".join(families) if families else _NO_FAMILIES
            family = spec.partition(":")[0]
            family = family if family in KNOWN["model family"] else "file"
            raise ModelError(
                f"no plugin understands the model {spec!r}; {known}"
                f"{self.missing('model family', family)}"
            )
        return model

    def open_photo(self, spec: str) -> Image | None:
        """Picture of a plugin for a specification such as `duo:7`, if one knows it."""
        found: Image | None = self._manager.hook.camkit_open_photo(spec=spec)
        return found

    def reshape_for(
        self, model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
    ) -> Reshape | None:
        """A plugin's reading of a layer's output, if one knows the layout."""
        found: Reshape | None = self._manager.hook.camkit_reshape_for(
            model=model, layer_name=layer_name, layer=layer, output=output, image=image
        )
        return found

    def target_for(self, request: Any, output: Any, context: TargetContext) -> Target | None:
        """A plugin's target for a request core does not know."""
        found: Target | None = self._manager.hook.camkit_target_for(
            request=request, output=output, context=context
        )
        return found

    def default_layer(self, model: nn.Module, image: Tensor) -> str | None:
        """A plugin's default layer for a model family."""
        found: str | None = self._manager.hook.camkit_default_layer(model=model, image=image)
        return found

    # -- registration ------------------------------------------------------------------------

    def _register(self, source: Source) -> None:
        status, message, started = "ok", "", time.perf_counter()
        entries: tuple[Entry, ...] = ()
        light = [name for name in _HEAVY if name not in sys.modules]
        if source.distribution in self._block or (
            self._allow is not None and source.distribution not in self._allow
        ):
            status, message = "blocked", "blocked by configuration"
        else:
            try:
                plugin = source.load()
                entries = checked_entries(plugin, source)
                admit(self._manager, plugin, source)
            except (Exception, SystemExit) as error:
                status = "incompatible" if isinstance(error, IncompatibleError) else "broken"
                entries, message = (), f"{type(error).__name__}: {error}"
                self._problem(source, message, error)
        heavy = tuple(name for name in light if name in sys.modules)
        self._note(source, status, entries, message, started, heavy)
        for entry in entries:
            if entry.kind not in KINDS:
                self._problem(source, f"entry {entry.name!r}: unknown kind {entry.kind!r}, ignored")
                continue
            for name in (entry.name, *entry.aliases):
                self._entries.setdefault((entry.kind, name), []).append(entry)

    def _note(
        self,
        source: Source,
        status: str,
        entries: tuple[Entry, ...],
        message: str,
        started: float,
        heavy: tuple[str, ...],
    ) -> None:
        state: Status = status  # type: ignore[assignment]
        module = source.value if isinstance(source.value, str) else source.value.__name__
        self._plugins.append(
            PluginInfo(
                distribution=source.distribution,
                version=source.version,
                entry_point=source.name,
                module=module,
                status=state,
                import_ms=1000 * (time.perf_counter() - started),
                heavy=heavy,
                entries=entries,
                problem=message,
            )
        )

    def _problem(self, source: Source, message: str, error: BaseException | None = None) -> None:
        problem = Problem(
            distribution=source.distribution,
            version=source.version,
            entry_point=source.name,
            message=" ".join(message.split()),
            error=error,
        )
        self._problems.append(problem)
        if self._strict:
            raise PluginError(f"strict plugin mode: {problem}") from error

    # -- lookup ------------------------------------------------------------------------------

    def _offers(self, kind: str, name: str) -> list[Entry]:
        distribution, slash, short = name.rpartition("/")
        offers = self._entries.get((kind, short if slash else name), [])
        if slash:
            offers = [entry for entry in offers if entry.distribution == normalize(distribution)]
        return offers

    def _unknown(self, kind: str, name: str) -> str:
        known = name in KNOWN.get(kind, {})
        hint = "" if known else near(name, sorted(self.names(kind)))
        return f"no {kind} is called {name!r}{hint}{self.missing(kind, name)}"

    def _quoted_problems(self) -> str:
        if not self._problems:
            return ""
        failed = "; ".join(map(str, self._problems))
        return f" ({len(self._problems)} plugin problem(s): {failed})"

    def _load(self, entry: Entry) -> Any:
        module, _, attribute = entry.ref.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise PluginError(
                f"{entry.kind} {entry.name!r} of {entry.distribution} could not be imported from "
                f"{entry.ref}: {type(error).__name__}: {error}"
            ) from error
        for name, declared in contradictions(entry, found):
            raise PluginError(
                f"{entry.kind} {entry.qualified}: its entry says {name} {declared!r}, "
                f"{entry.ref} says otherwise"
            )
        return found


@cache
def default_registry() -> Registry:
    """The registry of this process, built on first use."""
    return Registry()
