"""Named checks, and how a suite of them is run against one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch

from camkit_core.errors import OptionError
from camkit_core.registry import near
from camkit_core.testing.report import ConformanceError, Report, Row

S = TypeVar("S")
Tier = Literal["fast", "full"]


def always(subject: Any) -> str:
    """Applies to everything."""
    return ""


@dataclass(frozen=True)
class Check(Generic[S]):
    """One named property.

    Attributes:
        about: what is checked and how closely, in one line.
        run: raises an exception if the property does not hold.
        unless: why the check does not apply to a subject; empty if it does.
    """

    name: str
    about: str
    run: Callable[[S], None]
    tier: Tier
    unless: Callable[[S], str]

    def missing(self, subject: S) -> str:
        """`unless`, with nothing left behind where it had to try something."""
        with quietly():
            return self.unless(subject)


class Suite(Generic[S]):
    """The checks of one kind of object, in order."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.checks: dict[str, Check[S]] = {}

    def check(
        self, about: str, *, tier: Tier = "fast", unless: Callable[[S], str] = always
    ) -> Callable[[Callable[[S], None]], Callable[[S], None]]:
        """Add a function as a check under its own name."""

        def add(function: Callable[[S], None]) -> Callable[[S], None]:
            name = function.__name__.strip("_")
            self.checks[name] = Check(name, about, function, tier, unless)
            return function

        return add

    def of_tier(self, tier: Tier) -> list[Check[S]]:
        """Checks of a tier; the full one includes the fast one."""
        if tier not in ("fast", "full"):
            raise OptionError(f"tier={tier!r} must be 'fast' or 'full'")
        return [check for check in self.checks.values() if tier == "full" or check.tier == "fast"]

    def run(
        self, subject: S, name: str, expected: Mapping[str, str], tier: Tier, on_fail: str
    ) -> Report:
        """All checks of a tier against one subject.

        Raises:
            ConformanceError: something failed and `on_fail` is `"raise"`.
            OptionError: an expected failure names no check, or gives no reason.
        """
        if on_fail not in ("raise", "report"):
            raise OptionError(f"on_fail={on_fail!r} must be 'raise' or 'report'")
        self.known(expected)
        rows = [_row(check, subject, expected) for check in self.of_tier(tier)]
        report = Report(name, self.kind, tuple(rows))
        if on_fail == "raise":
            report.raise_failures()
        return report

    def known(self, expected: Mapping[str, str]) -> None:
        """Refuse expected failures of unknown checks, and those without a reason."""
        for check, reason in expected.items():
            if check not in self.checks:
                raise OptionError(
                    f"expected_failures: there is no {self.kind} check {check!r}"
                    f"{near(check, self.checks)} ({', '.join(self.checks)})"
                )
            if not reason.strip():
                raise OptionError(
                    f"expected_failures[{check!r}] is empty: say why it cannot hold, for the next "
                    "reader"
                )


def _row(check: Check[S], subject: S, expected: Mapping[str, str]) -> Row:
    reason = expected.get(check.name)
    missing = check.missing(subject)
    if missing:
        if reason is None:
            return Row(check.name, "not applicable", missing, 0.0)
        return Row(check.name, "failed", _obsolete(reason, f"it does not apply: {missing}"), 0.0)
    start = time.perf_counter()
    message = outcome(check, subject)
    seconds = time.perf_counter() - start
    if reason is None:
        return Row(check.name, "failed" if message else "passed", message, seconds)
    if message:
        return Row(check.name, "expected", f"{reason} ({message})", seconds)
    return Row(check.name, "failed", _obsolete(reason, "it passed"), seconds)


def _obsolete(reason: str, why: str) -> str:
    return f"expected to fail ({reason}), but {why}: remove it from expected_failures"


def outcome(check: Check[S], subject: S) -> str:
    """What is wrong, in one line; empty if the check passes."""
    try:
        with quietly():
            check.run(subject)
    except ConformanceError as error:
        return str(error)
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        return f"raised {type(error).__name__} while checking that {check.about}: {text}"
    return ""


def demand(check: Check[S], subject: S, name: str) -> None:
    """Run one check.

    Raises:
        ConformanceError: it failed.
    """
    message = outcome(check, subject)
    if message:
        raise ConformanceError(f"{name}, {check.name}: {message}")


@contextmanager
def quietly() -> Iterator[None]:
    """One thread (tiny networks), and the global generator as it was: both are put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # what uses it still repeats its failure
            yield
    finally:
        torch.set_num_threads(before)


def merged(suites: Sequence[Suite[S]], kind: str) -> Suite[S]:
    """One suite of several, in order."""
    whole: Suite[S] = Suite(kind)
    for suite in suites:
        whole.checks.update(suite.checks)
    return whole
