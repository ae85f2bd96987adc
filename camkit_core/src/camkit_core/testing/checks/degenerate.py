"""Empty, constant, non-finite: a finite map with an issue, or an error; never a quiet picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from camkit_core.errors import LayerError, NonFiniteError, TargetError
from camkit_core.need import Need
from camkit_core.testing.judge import ensure, fail, live, refused
from camkit_core.testing.networks import LAYER, images
from camkit_core.testing.subject import Subject, blind, no_rows, own_engine
from camkit_core.testing.suite import Suite
from camkit_core.testing.twins import constant_layer, dead_class, dead_layer

SUITE: Suite[Subject] = Suite("method")

_ROUNDING = 1e-12


def _maps(subject: Subject, net: nn.Module, x: Tensor, what: str) -> Tensor:
    """The raw map, finite; and, from camkit's engine, with an issue if it is empty."""
    if subject.method is None:
        raw = subject.raw(net, x)
    else:
        found = subject.explain(net, x, 1)
        (raw,) = found.raw.values()
        _said(found.issues, raw, what)
        shown = found.maps
        ensure(bool(((shown >= 0) & (shown <= 1)).all()), f"{what}: the display map leaves [0, 1]")
    ensure(
        bool(torch.isfinite(raw).all()), f"{what}: NaN or infinity; divide safely by what may be 0"
    )
    return raw


def _said(issues: object, raw: Tensor, what: str) -> None:
    flat = raw.flatten(1)
    ensure(
        bool(issues) or bool((flat.amax(1) > flat.amin(1)).all()),
        f"{what}: a map is constant, but the explanation has no issue",
    )


def _weights_by_gradient(subject: Subject) -> str:
    weights = "" if no_rows(subject) else "its weights need not vanish with the score"
    why = blind(subject) or weights
    if why or subject.needs & (Need.GRADIENTS | Need.HEAD | Need.INPUT_GRADIENTS):
        return why
    return "its weights need not vanish with the gradient"


@SUITE.check(
    "a class without weights has an empty map, beside a class that has one",
    unless=_weights_by_gradient,
)
def zero_class(subject: Subject) -> None:
    """Only the dead class's rows are empty."""
    net, x = dead_class(subject.net(), 4), images(3)
    raw = subject.raw(net, x, [4, 1, 4])
    live(raw[1:2], "the map of a class with weights, beside one without,")
    top, size = float(raw[[0, 2]].abs().max()), float(raw[1].abs().max())
    ensure(
        top <= _ROUNDING * size,
        f"a class without weights has a map of size {top:.3g} beside {size:.3g}; something is "
        "added to, or divided out of, vanishing gradients",
    )
    if subject.method is not None:
        issues = subject.explain(net, x, [4, 1, 4]).issues
        ensure(
            any(issue.code in ("all_zero", "constant") for issue in issues),
            "a class without weights has an empty map, but the explanation has no issue saying so",
        )


@SUITE.check("constant and dead layers give finite maps, and an issue if they are empty")
def constant_activations(subject: Subject) -> None:
    """Every channel the same everywhere, or zero."""
    _maps(subject, constant_layer(subject.net()), images(2), "constant activations")
    _maps(subject, dead_layer(subject.net()), images(2), "activations that are all zero")


@SUITE.check("a constant image gives a finite map")
def constant_image(subject: Subject) -> None:
    """One color."""
    _maps(subject, subject.net(), torch.full_like(images(2), 0.3), "a constant image")


@SUITE.check("a layer of one position gives a finite map, and an issue")
def one_position(subject: Subject) -> None:
    """1 x 1."""
    net, x = subject.net(), images(2, size=(1, 1))
    _maps(subject, net, x, "a layer of one position")


@SUITE.check("gradients of 1e15 and 1e-15 in float32 do not overflow or vanish")
def extreme_gradients(subject: Subject) -> None:
    """Their squares leave the range of float32, the answer does not."""
    from camkit_core.testing.twins import with_logits

    for scale in (1e15, 1e-15):
        net = with_logits(subject.net(), scale=scale).float()
        raw = subject.raw(net, images(2).float())
        ensure(
            bool(torch.isfinite(raw).all()),
            f"the score times {scale:g} in float32 gives NaN or infinity: rearrange the formula so "
            "that no power of a gradient is formed",
        )


@SUITE.check("NaN or infinity in the image is refused, not drawn")
def non_finite_input(subject: Subject) -> None:
    """One pixel is enough."""
    for value in (torch.nan, torch.inf):
        net, x = subject.net(), images(2)
        x[1, 0, 2, 3] = value
        if subject.method is not None:
            with refused(NonFiniteError, (), f"an image with a pixel of {value}"):
                subject.raw(net, x)
        else:
            _visible(subject, net, x, value)


def _visible(subject: Subject, net: nn.Module, x: Tensor, value: float) -> None:
    """An engine of its own may raise, or show that the map is meaningless."""
    try:
        raw = subject.raw(net, x)
    except Exception:
        return
    if bool(torch.isfinite(raw).all()):
        fail(f"an image with a pixel of {value} has a finite map, as if nothing had happened")


@SUITE.check("NaN that first appears inside the model is refused, not drawn")
def non_finite_inside(subject: Subject) -> None:
    """A layer whose output is NaN in one channel, which a NaN-skipping sum would hide."""
    net, x = subject.net(), images(2)
    net.features[2].bias.data[0] = torch.nan
    net.features[3] = nn.Identity()
    if subject.method is not None:
        with refused(NonFiniteError, ("NaN",), "a layer with NaN in one channel"):
            subject.raw(net, x)
    else:
        _visible(subject, net, x, torch.nan)


@SUITE.check("classes out of range and lists of the wrong length are refused")
def bad_targets(subject: Subject) -> None:
    """The engine says the range; another engine must at least not return maps."""
    net, x = subject.net(), images(4)
    cases: list[tuple[object, tuple[str, ...]]] = [
        (99, ("99", "0..4")),
        (-1, ("-1",)),
        ([1], ("1 target", "4 images")),
        ([1, 2, 3, 4, 0], ("5 targets", "4 images")),
    ]
    if not subject.reads_score:
        return
    accepted = []
    for target, words in cases:
        if subject.method is not None:
            with refused(TargetError, words, f"target={target!r} for 4 images of 5 classes"):
                subject.raw(net, x, target)
        elif not _refuses(subject, net, x, target):
            accepted.append(f"target={target!r}")
    ensure(
        not accepted, f"4 images of 5 classes, and no error for {', '.join(accepted)}: maps came"
    )


def _refuses(subject: Subject, net: nn.Module, x: Tensor, target: object) -> bool:
    try:
        subject.raw(net, x, target)
    except Exception:
        return True
    return False


@SUITE.check("a misspelled layer is refused with the nearest names", unless=own_engine)
def bad_layer(subject: Subject) -> None:
    """`feature` for `features`."""
    if not subject.at_layer:
        return
    with refused(LayerError, ("feature", LAYER), "layer 'feature' of a model that has 'features'"):
        subject.raw(subject.net(), images(2), 1, "feature")
