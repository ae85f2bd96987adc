"""Equations and analytic identities: what a method claims holds, what it does not claim fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from camkit_core.need import Claim
from camkit_core.testing.judge import CLEAR, EXACT, distance, ensure, equal, fail, live
from camkit_core.testing.networks import (
    AttentionNet,
    DeepNet,
    GapNet,
    SkipNet,
    SmoothNet,
    WallNet,
    halves,
    images,
    log_probability,
    margin,
)
from camkit_core.testing.reference import REFERENCES, Reference
from camkit_core.testing.subject import (
    Subject,
    attention_only,
    both,
    in_input_space,
    linear_head_only,
)
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")


Pair = Callable[[int], tuple[Tensor, Tensor]]
"""Two maps that a claim says are equal, on the network of an attempt."""

ATTEMPTS = 4


def relation(subject: Subject, claim: Claim, pair: Pair, what: str) -> None:
    """Equal if claimed; if not, clearly different on one of a few networks."""
    if claim in subject.claims:
        equal(*pair(0), f"claims {claim.name}, which does not hold ({what})")
        return
    for attempt in range(ATTEMPTS):
        if distance(*pair(attempt)) > CLEAR:
            return
    fail(f"{claim.name} holds ({what}): add Claim.{claim.name} to the claims")


def _reference(subject: Subject) -> Reference | None:
    own: Reference | None = getattr(subject.method, "reference", None)
    if own is not None:
        return own
    changed: set[str] = getattr(subject.method, "model_fields_set", set())
    return None if changed else REFERENCES.get(subject.name.rpartition(" ")[2])


def _no_reference(subject: Subject) -> str:
    if _reference(subject):
        return ""
    return "no slow reference: give the class an attribute `reference = staticmethod(f)`, " + (
        "f(activations, gradients) -> map"
    )


@SUITE.check("agrees with its equation, evaluated by slow loops (1e-9)", unless=_no_reference)
def reference(subject: Subject) -> None:
    """On a flat, a deep, a skipping and a smooth network, with signed activations too."""
    slow = _reference(subject)
    assert slow is not None
    for net in (
        GapNet(seed=2),
        DeepNet(seed=2, signed=True),
        SkipNet(seed=2),
        SmoothNet(seed=2),
    ):
        x, classes = images(2, net.dims), [2, 0]
        equal(
            subject.raw(net, x, classes),
            slow(*halves(net, x, classes)),
            f"{type(net).__name__}, classes {classes}; the formula is probably not the equation's "
            "(a sum for a mean, another axis, another order of ReLU and sum, another channel, "
            "layer, class or precision)",
        )


@SUITE.check(
    "behind average pooling and a linear layer the map is CAM's (1e-9), if claimed",
    unless=attention_only,
)
def gap_is_cam(subject: Subject) -> None:
    """`sum_k w_ck A_k / Z`."""

    def pair(attempt: int) -> tuple[Tensor, Tensor]:
        net, x = GapNet(seed=1 + attempt), images(2)
        with torch.no_grad():
            cam = torch.einsum("k,nkhw->nhw", net.fc.weight[1], net.features(x)) / 40
        return subject.raw(net, x), cam

    relation(subject, Claim.GAP_IS_CAM, pair, "comparing with CAM on a pooled linear head")


@SUITE.check(
    "the map sums to sum(G * A) (1e-9), if claimed", unless=both(linear_head_only, attention_only)
)
def conservation(subject: Subject) -> None:
    """On a network whose gradients differ between positions."""
    net, x = subject.net(), images(2)
    a, g = halves(net, x, [1, 1])
    wanted = (g * a).flatten(1).sum(1)
    maps = subject.raw(net, x)
    live(maps)
    off = ((maps.flatten(1).sum(1) - wanted) / wanted).abs()
    if Claim.CONSERVATION in subject.claims and not bool((off < EXACT).all()):
        fail(f"claims CONSERVATION: the map's sum misses sum(G * A) by {off.max():.3g} of it")
    if Claim.CONSERVATION not in subject.claims and not bool((off > CLEAR).any()):
        fail("the map sums to sum(G * A): add Claim.CONSERVATION to the claims")


@SUITE.check(
    "zero where the score does not look (1e-9), if claimed",
    unless=both(linear_head_only, in_input_space),
)
def locality(subject: Subject) -> None:
    """A class that reads the left half only."""
    x = images(2)
    net = subject.on(WallNet, x, 0, seed=9)
    maps = subject.raw(net, x, 0)
    live(maps)
    share = float(maps[..., net.wall :].abs().max() / maps.abs().max())
    if Claim.LOCALITY in subject.claims:
        ensure(
            share < EXACT,
            f"claims LOCALITY: class 0 reads the left half only, but the right half has {share:.3g}"
            " of the largest value; gradients were probably averaged over positions",
        )
    else:
        ensure(share > CLEAR, "zero where the score does not look: add Claim.LOCALITY")


@SUITE.check(
    "the map of a sum of scores is the sum of the maps (1e-9), if claimed", unless=linear_head_only
)
def linear_in_target(subject: Subject) -> None:
    """Scores given as functions of one image's output, with curvature."""
    x = images(2)
    first, second = log_probability(2), margin(1, 4)

    def total(output: Tensor) -> Any:
        return first(output) + second(output)

    def pair(attempt: int) -> tuple[Tensor, Tensor]:
        kind = AttentionNet if subject.attends else SmoothNet
        net = subject.on(kind, x, first, seed=3 + attempt)
        parts = subject.raw(net, x, first) + subject.raw(net, x, second)
        return subject.raw(net, x, total), parts

    relation(subject, Claim.LINEAR_IN_TARGET, pair, "adding two scores")


@SUITE.check(
    "a path around what follows the layer counts (1e-9)",
    unless=both(linear_head_only, in_input_space),
)
def skip_path(subject: Subject) -> None:
    """The same function with the path inside one module and beside it."""
    from camkit_core.testing.wrapped import Boxed

    x = images(2)
    net = subject.on(SkipNet, x, seed=4)
    equal(
        subject.raw(net, x),
        subject.raw(Boxed(net), x),
        "the same function with its skip connection written inside a module; what runs after the "
        "layer is probably replayed without it",
    )
