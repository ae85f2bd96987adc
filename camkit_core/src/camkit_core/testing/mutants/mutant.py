"""One wrong implementation, and the check that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from camkit_core.testing.report import Report
from camkit_core.testing.suite import Tier


@dataclass(frozen=True)
class Mutant:
    """Something wrong (or, in `RIGHT`, right).

    Attributes:
        fault: what is wrong, in a few words.
        killer: the check that is meant to notice; empty for what is right.
        steady: which other checks notice does not depend on the machine.
    """

    name: str
    fault: str
    killer: str
    make: Callable[[], Any]
    tier: Tier = "fast"
    steady: bool = True

    def report(self) -> Report:
        """All checks against it."""
        from camkit_core.testing.parametrize import suite_of

        suite, subject, _ = suite_of(self.make())
        return suite.run(subject, self.name, {}, self.tier, "report")
