"""The checks of methods, one topic per file."""

from __future__ import annotations

from camkit_core.testing.checks import (
    batches,
    card,
    circumstances,
    contract,
    degenerate,
    endurance,
    equations,
    rows,
    shapes,
    state,
    symmetries,
)
from camkit_core.testing.subject import Subject
from camkit_core.testing.suite import Suite, merged

METHOD_CHECKS: Suite[Subject] = merged(
    [
        contract.SUITE,
        batches.SUITE,
        equations.SUITE,
        symmetries.SUITE,
        circumstances.SUITE,
        state.SUITE,
        degenerate.SUITE,
        rows.SUITE,
        shapes.SUITE,
        endurance.SUITE,
        card.SUITE,
    ],
    "method",
)
