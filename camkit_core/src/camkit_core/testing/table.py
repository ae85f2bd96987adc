"""What is checked, and which check catches which fault, as Markdown.

python -m camkit_core.testing.table > docs/conformance.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from camkit_core.testing.checks import METHOD_CHECKS
from camkit_core.testing.kinds import controls, metrics, reshapes, targets
from camkit_core.testing.mutants import MUTANTS, RIGHT, Mutant
from camkit_core.testing.suite import Suite

SUITES: tuple[Suite[Any], ...] = (
    METHOD_CHECKS,
    targets.SUITE,
    reshapes.SUITE,
    metrics.SUITE,
    controls.SUITE,
)

_SHOWN = 4

_INTRO = """# Conformance

<!-- made by: python -m camkit_core.testing.table > docs/conformance.md -->

`camkit_core.testing` puts methods, targets, reshapes, metrics and controls of any package through
named checks. It needs nothing but camkit-core; networks, slow equations and data are its own.

```python
from camkit_core.testing import parametrize_checks


@parametrize_checks([PowerCAM()], expected_failures={"flip": "its first cell stays dark"})
def test_powercam(check):
    check()
```

Every check of every object is one pytest id. A check that honestly cannot hold is listed with its
reason; if it passes one day, the test fails and the reason has to go. `check_method(PowerCAM())`
gives the same as a report, `camkit plugins check NAME` on the command line. The fast tier takes
about a second for a method; `tier="full"` adds threads, statistics, sizes and devices.

Which checks apply follows from what the object declares. `needs` decides which networks it can
explain and what the engine grants it; `claims` decides which identities must hold. A claim cuts
both ways: what is claimed must hold, and what is not claimed must visibly fail, so that a list of
claims can be trusted. Maps are compared in float64 relative to their largest value, and never if
they are empty or constant. Functions with an engine of their own are checked as
`check_method(explainer("name", function, claims=...))`, `function(model, images, target, layer)`.

The networks are classifiers. A method that asks the target for something else than its score
says so in `target_views` (D-RISE: `similarity`, which detection targets have), and gets targets
whose score stands for each of these views. All but the value of the view is checked that way; the
value is for a test of the method's equation. Plain classes it must refuse.
"""

_MUTANTS = """## Who checks the checks

{count} wrong implementations ship with the kit, each a fault found in published code or easily
made. All are caught; next to each are the check that is meant to catch it and others that do.
{right} right implementations, of which the wrong ones are small changes, pass everything.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_INTRO, *(_checks(suite) for suite in SUITES)]
    parts.append(_MUTANTS.format(count=len(MUTANTS), right=len(RIGHT)))
    parts.append("\n".join(_rows(("fault", "caught by", "and by"), map(_kill, MUTANTS))) + "\n")
    return "\n".join(parts)


def _checks(suite: Suite[Any]) -> str:
    title = f"## Checks of {suite.kind}s\n"
    rows = ((f"`{c.name}`", c.about, c.tier) for c in suite.checks.values())
    return "\n".join([title, *_rows(("check", "what holds", "tier"), rows)]) + "\n"


def _kill(mutant: Mutant) -> tuple[str, str, str]:
    report = mutant.report()
    failed = [row.check for row in report.failed]
    others = [f"`{name}`" for name in failed if name != mutant.killer]
    listed = ", ".join(others[:_SHOWN]) + " and others" * (len(others) > _SHOWN)
    if not mutant.steady:
        listed = "others, depending on the machine"
    caught = f"`{mutant.killer}`" if mutant.killer in failed else "**nothing**"
    return f"{report.kind}: {mutant.fault}", caught, listed


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


if __name__ == "__main__":
    print(markdown(), end="")
