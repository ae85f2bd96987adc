"""Checks of controls: display maps that need no model, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.testing.judge import ensure
from camkit_core.testing.kinds import evidence as ev
from camkit_core.testing.kinds.made import made
from camkit_core.testing.kinds.metrics import check_card
from camkit_core.testing.report import Report
from camkit_core.testing.run import NOTHING, OnFail
from camkit_core.testing.suite import Suite, Tier


@dataclass(frozen=True)
class ControlSubject:
    """A control."""

    control: Any


SUITE: Suite[ControlSubject] = Suite("control")


def control_subject(control: Any) -> tuple[ControlSubject, str]:
    """Subject and name."""
    found, name = made("control", control)
    return ControlSubject(found), name


def check_control(
    control: Any,
    *,
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
    on_fail: OnFail = "raise",
) -> Report:
    """Put a control through its checks; see `check_method`.

    Raises:
        ConformanceError: a check failed.
    """
    subject, name = control_subject(control)
    return SUITE.run(subject, name, expected_failures, tier, on_fail)


def _maps(subject: ControlSubject) -> Tensor:
    found, capture = ev.explained(ev.network(), ev.picture(), ev.CLASSES)
    maps: Tensor = subject.control(found, ev.evidence(capture), 0)
    return maps


@SUITE.check("display maps [N, *S] in [0, 1]")
def maps(subject: ControlSubject) -> None:
    """Of the shape of the explanation's own."""
    found = _maps(subject)
    ensure(isinstance(found, Tensor), f"the control returned {type(found).__name__}")
    ensure(
        list(found.shape) == [3, 5, 8],
        f"the control gave {list(found.shape)} for maps of [3, 5, 8]",
    )
    low, high = float(found.min()), float(found.max())
    ensure(low >= 0 and high <= 1, f"the maps go from {low:.3g} to {high:.3g}, not within [0, 1]")


@SUITE.check("equal seeds give equal maps, and the global generator is not used")
def seed(subject: ControlSubject) -> None:
    """Bit for bit."""
    found, capture = ev.explained(ev.network(), ev.picture(), ev.CLASSES)
    given = ev.evidence(capture)
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(1)
    drawn = torch.random.get_rng_state()
    try:
        first, second = (subject.control(found, given, 7).clone() for _ in range(2))
        touched = not torch.equal(torch.random.get_rng_state(), drawn)
    finally:
        torch.random.set_rng_state(before)
    ensure(torch.equal(first, second), "one seed gave two different maps")
    ensure(not touched, "the global random generator was used: make one from the seed")


@SUITE.check("explanation and images are untouched")
def untouched(subject: ControlSubject) -> None:
    """Bit for bit."""
    found, capture = ev.explained(ev.network(), ev.picture(), ev.CLASSES)
    own, kept = found.maps.clone(), found.inputs.clone()
    given = subject.control(found, ev.evidence(capture), 0)
    ensure(torch.equal(found.inputs, kept), "the images were changed")
    given.fill_(0.5)
    ensure(torch.equal(found.maps, own), "the control's maps share memory with the explanation's")


@SUITE.check("a name to look up and a summary")
def card(subject: ControlSubject) -> None:
    """What listings show."""
    check_card(subject.control, "control")
