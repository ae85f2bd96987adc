"""Everything that is registered, and has no conformance test in its own folder, conforms."""

from __future__ import annotations

from collections.abc import Callable

from camkit_core import default_registry
from camkit_core.testing import parametrize_checks

ELSEWHERE = {
    ("method", "camkit-methods-gradient"),
    ("method", "camkit-methods-perturbation"),
    ("target", "camkit-tasks"),
    ("reshape", "camkit-tasks"),
}
"""Tested in tests/<distribution>/test_conformance.py."""

EXPECTED: dict[str, str] = {}

OTHERS = [
    f"{kind}/{entry.qualified}"
    for kind in ("method", "target", "reshape", "metric", "control")
    for entry in default_registry().entries(kind)
    if (kind, entry.distribution) not in ELSEWHERE
]


def test_there_are_some() -> None:
    assert {one.partition("/")[0] for one in OTHERS} >= {"metric", "control"}


@parametrize_checks(OTHERS, EXPECTED)
def test_registered(check: Callable[[], None]) -> None:
    check()
