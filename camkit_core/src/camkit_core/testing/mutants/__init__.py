"""Plausible wrong implementations: the kit is trusted because it catches every one of them.

Each is a small change of something right, as it was found in published code or is easily made. The
right versions are here too (`RIGHT`) and pass, so that a kill is the fault's doing.
"""

from __future__ import annotations

from camkit_core.testing.mutants import answers, engines, methods, others, promises, rerun
from camkit_core.testing.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *methods.MUTANTS,
    *promises.MUTANTS,
    *rerun.MUTANTS,
    *engines.MUTANTS,
    *answers.MUTANTS,
    *others.MUTANTS,
)

RIGHT: tuple[Mutant, ...] = (
    *methods.RIGHT,
    *promises.RIGHT,
    *rerun.RIGHT,
    *engines.RIGHT,
    *answers.RIGHT,
    *others.RIGHT,
)

__all__ = ["MUTANTS", "RIGHT", "Mutant"]
