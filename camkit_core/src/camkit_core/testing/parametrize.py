"""`parametrize_checks`: one pytest id per object and check."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from camkit_core.errors import CapabilityError, OptionError
from camkit_core.registry import near
from camkit_core.testing.checks import METHOD_CHECKS
from camkit_core.testing.kinds import controls, metrics, reshapes, targets
from camkit_core.testing.report import ConformanceError
from camkit_core.testing.run import NOTHING
from camkit_core.testing.subject import subject_of
from camkit_core.testing.suite import Suite, Tier, demand

KINDS = ("method", "target", "reshape", "metric", "control")


def parametrize_checks(
    objects: Sequence[Any],
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: the test function is called once per object and applicable check.

        @parametrize_checks([PowerCAM()], {"flip": "its first cell stays dark"})
        def test_powercam(check):
            check()

    Args:
        objects: methods, targets, reshapes, metrics, controls: instances, classes, or names;
            a name that is no method's is written with its kind, `"target/margin"`.
        expected_failures: check name, or `"object/check"`, -> why it cannot hold. The test is a
            strict xfail: if the check passes one day, the test fails.
        tier: `"fast"` or `"full"`.

    Raises:
        OptionError: an expected failure names nothing, or gives no reason.
        CapabilityError: pytest is not installed.
    """
    try:
        pytest: Any = importlib.import_module("pytest")
    except ImportError as error:
        raise CapabilityError(
            "parametrize_checks makes pytest tests, and pytest is not installed: pip install "
            "pytest, or call check_method(...)"
        ) from error
    chosen = list(_cases(objects, tier))
    _known(expected_failures, chosen)
    cases = []
    for name, check, run in chosen:
        reason = expected_failures.get(f"{name}/{check}", expected_failures.get(check))
        marks = [pytest.mark.xfail(reason=reason, strict=True, raises=ConformanceError)]
        cases.append(pytest.param(run, id=f"{name}-{check}", marks=marks if reason else []))
    return pytest.mark.parametrize("check", cases)  # type: ignore[no-any-return]


def _cases(objects: Sequence[Any], tier: Tier) -> Iterator[tuple[str, str, Callable[[], None]]]:
    for one in objects:
        suite, subject, name = suite_of(one)
        for check in suite.of_tier(tier):
            if not check.missing(subject):
                yield name, check.name, partial(demand, check, subject, name)


def suite_of(request: Any) -> tuple[Suite[Any], Any, str]:
    """Checks, subject and name of any object that can be checked.

    Raises:
        OptionError: it is none of the kinds.
    """
    kind, request = _kind(request)
    if kind == "target":
        return targets.SUITE, *targets.target_subject(request)
    if kind == "reshape":
        return reshapes.SUITE, *reshapes.reshape_subject(request)
    if kind == "metric":
        return metrics.SUITE, *metrics.metric_subject(request)
    if kind == "control":
        return controls.SUITE, *controls.control_subject(request)
    subject = subject_of(request)
    return METHOD_CHECKS, subject, request if isinstance(request, str) else subject.name


def _kind(request: Any) -> tuple[str, Any]:
    if isinstance(request, str):
        kind, slash, name = request.partition("/")
        return (kind, name) if slash and kind in KINDS else ("method", request)
    if hasattr(request, "bind"):
        return "target", request
    if hasattr(request, "to_spatial"):
        return "reshape", request
    if hasattr(request, "higher_is_better"):
        return "metric", request
    if hasattr(request, "needs"):
        return "method", request
    if callable(request) and hasattr(request, "name"):
        return "control", request
    raise OptionError(
        f"{request!r} is no method, target, reshape, metric or control, nor the name of a method"
    )


def _known(expected: Mapping[str, str], cases: list[tuple[str, str, Any]]) -> None:
    names = {check for _, check, _ in cases} | {f"{name}/{check}" for name, check, _ in cases}
    for key, reason in expected.items():
        if key not in names:
            raise OptionError(
                f"expected_failures: no check {key!r} applies to these objects{near(key, names)}"
            )
        if not reason.strip():
            raise OptionError(f"expected_failures[{key!r}] is empty: say why it cannot hold")
