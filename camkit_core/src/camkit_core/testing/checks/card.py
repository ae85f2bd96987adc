"""What listings, files and people read: the specification card."""

from __future__ import annotations

import re
from typing import Any

from camkit_core.entries import Entry, Paper
from camkit_core.errors import PluginError
from camkit_core.method import RESERVED
from camkit_core.testing.judge import ensure, fail
from camkit_core.testing.subject import Subject, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")


@SUITE.check(
    "a name to look up, a summary, options with descriptions, known claims", unless=own_engine
)
def card(subject: Subject) -> None:
    """What `camkit methods` shows."""
    method: Any = subject.method
    kind = type(method)
    try:
        Entry(kind="method", name=method.name, ref=f"{kind.__module__}:{kind.__qualname__}")
    except PluginError as error:
        fail(str(error))
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    ensure(bool(summary), f"{kind.__name__} has no docstring: say the formula and the paper")
    ensure(len(summary) <= 120, f"the first line of the docstring has {len(summary)} characters")
    fields = getattr(kind, "model_fields", {})
    bare = [name for name, field in fields.items() if not field.description]
    ensure(not bare, f"options {bare} have no description: Field(default, description='...')")
    taken = sorted(RESERVED & set(fields))
    ensure(not taken, f"options {taken} are words of the engine")
    paper = getattr(method, "paper", None)
    ensure(paper is None or isinstance(paper, Paper), "paper must be a camkit_core.Paper")


@SUITE.check(
    "the options survive JSON, and equal options make equal, hashable methods", unless=own_engine
)
def options(subject: Subject) -> None:
    """As files and provenance carry them."""
    method: Any = subject.method
    if not hasattr(method, "model_dump"):
        fail("the method is no MethodModel: its options cannot be validated, listed or saved")
    again = type(method).model_validate_json(method.model_dump_json())
    ensure(again == method, f"{method!r} comes back from JSON as {again!r}")
    ensure(hash(again) == hash(method), "equal methods have different hashes")
    try:
        type(method)(no_such_option=1)
    except Exception:
        return
    fail("an unknown option is accepted: keep model_config of MethodModel (extra='forbid')")


@SUITE.check(
    "the explanation says which method, options, layer, target and passes made it",
    unless=own_engine,
)
def provenance(subject: Subject) -> None:
    """Everything needed to repeat it."""
    from camkit_core.testing.networks import images

    found = subject.explain(subject.net(), images(2), 1, seed=3).provenance
    method: Any = subject.method
    dump = method.model_dump(mode="json") if hasattr(method, "model_dump") else {}
    ensure(found.method == method.name, f"the provenance names {found.method!r}")
    ensure(dict(found.parameters) == dump, f"the provenance has options {found.parameters}")
    ensure(found.seed == 3, f"the provenance has seed {found.seed}, not 3")
    ensure(found.forwards >= 1, "the provenance counts no forward pass")
    ensure(bool(re.search(r"\d", found.target) or not subject.reads_score), "no target is named")
