"""`check_method`: a method against all checks that make sense for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from camkit_core.need import Claim
from camkit_core.testing.checks import METHOD_CHECKS
from camkit_core.testing.report import Report
from camkit_core.testing.subject import subject_of
from camkit_core.testing.suite import Tier

OnFail = Literal["raise", "report"]
NOTHING: Mapping[str, str] = {}


def check_method(
    method: Any,
    *,
    claims: Iterable[Claim] | None = None,
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
    on_fail: OnFail = "raise",
) -> Report:
    """Put a method through the checks that its `needs` and `claims` call for.

    Args:
        method: instance, class, registered name or specification (`"gradcampp:variant=grad-cam"`),
            or what `explainer(...)` returns, for a function with an engine of its own.
        claims: instead of the method's own.
        expected_failures: check name -> why it cannot hold. A pass of one is a failure.
        tier: `"fast"` (seconds) or `"full"` (threads, statistics, sizes, devices besides).
        on_fail: raise, or only report.

    Raises:
        ConformanceError: a check failed; the text is the report.
        OptionError: an expected failure names no check, or gives no reason.
    """
    subject = subject_of(method, claims)
    name = method if isinstance(method, str) else subject.name
    return METHOD_CHECKS.run(subject, name, expected_failures, tier, on_fail)
