"""How maps move when the network or the image is changed in ways with a known effect."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from camkit_core.need import Claim, Need
from camkit_core.testing.checks.equations import relation
from camkit_core.testing.judge import equal, unit
from camkit_core.testing.networks import Net, images
from camkit_core.testing.subject import Subject, in_input_space
from camkit_core.testing.suite import Suite
from camkit_core.testing.twins import (
    folded,
    mirrored,
    permuted,
    rescaled,
    same_function,
    with_logits,
)

SUITE: Suite[Subject] = Suite("method")


def _twins(subject: Subject, change: Callable[[Net], Net], attempt: int) -> tuple[Tensor, Tensor]:
    """Maps of a network that computes the same otherwise, and of the network."""
    net, x = subject.net(attempt), images(2)
    twin = change(net)
    same_function(net, x, twin, x)
    return subject.raw(twin, x), subject.raw(net, x)


@SUITE.check("reordering the layer's channels keeps the map (1e-9), if claimed")
def channel_permutation(subject: Subject) -> None:
    """The same function, channels in another order."""
    pair = partial(_twins, subject, permuted)
    relation(subject, Claim.CHANNEL_PERMUTATION, pair, "reordering channels")


@SUITE.check("A_k * s with the weights behind it / s keeps the map (1e-9), if claimed")
def channel_rescaling(subject: Subject) -> None:
    """The same function, channels in other units."""
    pair = partial(_twins, subject, rescaled)
    relation(subject, Claim.CHANNEL_RESCALING, pair, "rescaling channels")


@SUITE.check("the score times 10 and 1/1000 keeps the map up to its scale (1e-9), if claimed")
def score_scaling(subject: Subject) -> None:
    """An absolute epsilon shows here."""

    def pair(attempt: int, scale: float = 10.0) -> tuple[Tensor, Tensor]:
        net, x = subject.net(attempt), images(2)
        after = subject.raw(with_logits(net, scale=scale), x)
        return unit(after), unit(subject.raw(net, x))

    scales = (10.0, 1e-3) if Claim.SCORE_SCALING in subject.claims else (10.0,)
    for scale in scales:
        what = f"the score times {scale:g}"
        relation(subject, Claim.SCORE_SCALING, partial(pair, scale=scale), what)


@SUITE.check("a constant added to the score keeps the map (1e-9), if claimed")
def score_shift(subject: Subject) -> None:
    """Logits minus 7."""

    def pair(attempt: int) -> tuple[Tensor, Tensor]:
        net, x = subject.net(attempt), images(2)
        return subject.raw(with_logits(net, shift=-7.0), x), subject.raw(net, x)

    relation(subject, Claim.SCORE_SHIFT, pair, "a constant added to the score")


def _drawn(subject: Subject) -> str:
    rows = Need.SCORES | Need.TAIL | Need.RECAPTURE
    random = subject.needs & rows and Claim.DETERMINISTIC not in subject.claims
    return "what it draws at random stays where it is" if random else ""


@SUITE.check("mirroring the image and the kernels mirrors the map (1e-9)", unless=_drawn)
def flip(subject: Subject) -> None:
    """Along both axes."""
    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    for axis in (-1, -2):
        twin = mirrored(net, axis)
        same_function(net, x, twin, x.flip(axis))
        after = subject.raw(twin, x.flip(axis))
        equal(
            after,
            before.flip(axis),
            f"image and kernels mirrored along axis {axis}; a half-cell shift, a sign that follows "
            "the first position, or a transposed grid",
        )


@SUITE.check("shifting the image of a network without borders shifts the map (1e-9)", unless=_drawn)
def shift(subject: Subject) -> None:
    """Circular convolutions, so that nothing leaves the picture."""
    net, x, by = subject.net(circular=True), images(2), (2, 3)
    moved = x.roll(by, (-2, -1))
    same_function(net, x, net, moved)
    after, before = subject.raw(net, moved), subject.raw(net, x)
    equal(after, before.roll(by, (-2, -1)), "the image shifted by 2 and 3 cells, circularly")


def _compares_inputs(subject: Subject) -> str:
    if not subject.at_layer:
        return in_input_space(subject)
    perturbs = Need.SCORES | Need.RECAPTURE | Need.INPUT_GRADIENTS
    return "what it does to the image has a zero point" if subject.needs & perturbs else ""


@SUITE.check(
    "a constant added to the image and taken back by the first layer keeps the map (1e-9)",
    unless=_compares_inputs,
)
def input_shift(subject: Subject) -> None:
    """ArXiv 1711.00867."""
    net, x = subject.net(padding=0), images(2, size=(9, 11))
    offset = torch.tensor([1.5, -0.7, 0.4], dtype=torch.float64)
    twin, moved = folded(net, offset), x + offset[:, None, None]
    same_function(net, x, twin, moved)
    after, before = subject.raw(twin, moved), subject.raw(net, x)
    equal(after, before, "a constant added to the image and taken back by the first layer")
