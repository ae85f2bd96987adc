"""The conformance kit proves itself: right implementations pass, wrong ones are caught."""

from __future__ import annotations

import pytest

from camkit_core.testing.mutants import MUTANTS, RIGHT, Mutant
from camkit_core.testing.parametrize import suite_of
from camkit_core.testing.suite import outcome


def named(mutants: tuple[Mutant, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutant", mutants, ids=lambda mutant: mutant.name)


SAID = {
    "BatchMean": ("batch of 4 and alone", "differ by 0.", "allowed 1e-09"),
    "LeakedHook": ("a call changed", "model features hooks"),
    "PollutedGradients": ("model conv .grad weight",),
    "LostTrainingFlags": ("features.1 training",),
    "Underclaimed": ("add Claim.CHANNEL_PERMUTATION to the claims",),
    "Undeclared": ("uses gradients", "Need.GRADIENTS"),
    "Resized": ("[2, 5, 14]", "[2, 5, 7]"),
    "TwoDimensions": ("raised IndexError", "one-dimensional"),
}


@named(RIGHT)
def test_what_is_right_passes(mutant: Mutant) -> None:
    report = mutant.report()
    assert report.ok, report
    assert report.count("passed") >= 4


@named(MUTANTS)
def test_what_is_wrong_is_caught_by_the_check_that_is_meant_to(mutant: Mutant) -> None:
    suite, subject, _ = suite_of(mutant.make())
    check = suite.checks[mutant.killer]
    assert check.unless(subject) == ""
    said = outcome(check, subject)
    assert said, f"{mutant.name} survives {mutant.killer}"
    assert len(said) > 15, said


def test_there_are_enough_of_them_and_no_two_alike() -> None:
    assert len(MUTANTS) >= 25
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS)


def test_a_failure_says_what_was_done_and_shows_the_numbers() -> None:
    mutants = {mutant.name: mutant for mutant in MUTANTS}
    for name, words in SAID.items():
        suite, subject, _ = suite_of(mutants[name].make())
        said = outcome(suite.checks[mutants[name].killer], subject)
        assert [word for word in words if word not in said] == [], said
