"""Every target and reshape of the tasks package against the conformance checks of core."""

from __future__ import annotations

from collections.abc import Callable

import torch

from camkit_core import default_registry
from camkit_core.testing import check_reshape, parametrize_checks
from camkit_tasks.reshapes.tokens import Tokens

OURS = [
    f"{kind}/{entry.name}"
    for kind in ("target", "reshape")
    for entry in default_registry().entries(kind)
    if entry.distribution == "camkit-tasks"
]


def test_targets_and_reshapes_are_there() -> None:
    assert {"target/margin", "target/rest", "reshape/tokens"} <= set(OURS)


@parametrize_checks(OURS)
def test_registered(check: Callable[[], None]) -> None:
    check()


def test_tokens_with_registers_on_grids_that_are_not_square() -> None:
    for prefix, grid in ((0, (3, 5)), (1, (7, 4)), (5, (2, 9)), (1, (2, 3, 4))):
        tokens = torch.zeros(2, prefix + torch.Size(grid).numel(), 3)
        report = check_reshape(Tokens(prefix=prefix, grid=grid), tokens, (tokens, {"mask": None}))
        assert report.count("passed") >= 8
