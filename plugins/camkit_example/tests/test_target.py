"""camkit's own checks on the target, and its equation."""

from __future__ import annotations

import pytest
import torch

from camkit_core import TargetError
from camkit_core.testing import parametrize_checks
from camkit_example.plugin import camkit_target_for
from camkit_example.target import LogOdds


@parametrize_checks([LogOdds(), LogOdds(1)])
def test_conforms(check) -> None:
    check()


def test_the_equation() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.5, -4.0, 0.0]])
    found = LogOdds(1).bind(logits, lambda inputs: logits)(logits, torch.tensor([0, 1]))
    chance = logits.softmax(1)[:, 1]
    torch.testing.assert_close(found, (chance / (1 - chance)).log())


def test_one_output_has_no_odds() -> None:
    with pytest.raises(TargetError, match=r"\[2, 1\].*one output only"):
        LogOdds(0).bind(torch.zeros(2, 1), lambda inputs: inputs)


def test_people_can_type_it() -> None:
    assert camkit_target_for("example_odds") == LogOdds()
    assert camkit_target_for("example_odds:3") == LogOdds(3)
    assert camkit_target_for("margin") is None
    assert camkit_target_for(3) is None
