"""What every method owes the engine: a usable raw map, from what it declared."""

from __future__ import annotations

import torch

from camkit_core.api import explain
from camkit_core.errors import CapabilityError
from camkit_core.need import Need
from camkit_core.testing.fixtures import Watch
from camkit_core.testing.judge import ensure, fail, live, refused
from camkit_core.testing.networks import LAYER, images
from camkit_core.testing.subject import Subject, bare_registry, both, in_input_space, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")


@SUITE.check(
    "the map is [N, *S], S the layer's or the input's size, finite, float32 or better, detached"
)
def raw_map(subject: Subject) -> None:
    """On a layer coarser than the image."""
    net, x = subject.net(stride=2), images(2, size=(9, 14))
    raw = subject.answer(net, x)
    with torch.no_grad():
        here = net.features(x).shape[2:] if subject.on_picture else x.shape[2:]
    if Need.LAYERS not in subject.needs:
        ensure(
            list(raw.shape) in ([2, *here], [2, *x.shape[2:]]),
            f"the raw map is {list(raw.shape)}; the layer has {list(here)} positions, so it should "
            f"be {[2, *here]}: return maps at that resolution, the engine resizes them for display",
        )
    ensure(bool(torch.isfinite(raw).all()), "the raw map has NaN or infinity")
    ensure(
        raw.dtype in (torch.float32, torch.float64),
        f"the raw map is {raw.dtype}; compute in float32 or better, as the capture's tensors are",
    )
    ensure(not raw.requires_grad, "the raw map carries an autograd graph, which keeps the model")
    ensure(raw.device == x.device, f"the raw map is on {raw.device}, the images on {x.device}")


@SUITE.check("the map of a float64 network varies over the picture, for every class")
def live_map(subject: Subject) -> None:
    """Else the other checks would compare nothing with nothing."""
    net, x = subject.net(), images(3)
    for c in (0, 1, 2):
        live(subject.raw(net, x, c), f"the map of class {c}")


@SUITE.check("what the method reads of its capture is what its needs declare", unless=own_engine)
def declared_needs(subject: Subject) -> None:
    """Nothing undeclared (the engine refuses it), nothing declared in vain."""
    watch = _watched(subject)
    used = Need.NONE
    for need in watch.used:
        used |= need
    vain = subject.needs & ~used & ~(Need.LAYERS | Need.FIT)
    ensure(
        not vain,
        f"needs declares {', '.join(vain.words())}, which the method never read: the engine pays "
        "for it in vain; drop it from needs",
    )


def _scores_only(subject: Subject) -> str:
    return "" if subject.views else "it asks nothing of a target but its score"


@SUITE.check(
    "a target without the views that `target_views` declares is refused with CapabilityError",
    unless=both(own_engine, _scores_only),
)
def missing_view(subject: Subject) -> None:
    """A class has a score, and no more."""
    views = " and ".join(subject.views)
    with refused(CapabilityError, (), f"target_views declares {views}, and the target has none"):
        explain(subject.net(), images(2), subject.method, 1, LAYER, registry=bare_registry())


@SUITE.check("the method does not write to the tensors of its capture", unless=own_engine)
def capture_unwritten(subject: Subject) -> None:
    """They are shared with the other methods of a call."""
    watch = _watched(subject)
    written = [name for name, (t, version) in watch.given.items() if t._version != version]
    ensure(
        not written,
        f"the method wrote to capture.{' and capture.'.join(written)}, which other methods of the "
        "same call read too: use the operation without the trailing underscore, or clone first",
    )


def _watched(subject: Subject) -> Watch:
    watch = Watch(subject.method)
    watching = Subject(subject.name, subject.needs, subject.claims, method=watch)
    try:
        watching.raw(subject.net(), images(2))
    except CapabilityError as error:
        fail(str(error))
    return watch


@SUITE.check("the method is called on the layer asked for, not another", unless=in_input_space)
def right_layer(subject: Subject) -> None:
    """The same network, with the layer under another name beside a decoy of the same shape."""
    from camkit_core.testing.judge import equal
    from camkit_core.testing.wrapped import Decoyed

    net, x = subject.net(), images(2)
    equal(
        subject.raw(Decoyed(net), x, 1, "here"),
        subject.raw(net, x, 1, LAYER),
        "a network with a decoy layer of the same shape before and behind the one asked for; "
        "activations or gradients come from the wrong layer",
    )


@SUITE.check("passes made are at most what `runs` declares, e.g. 1F + 1B", unless=own_engine)
def cost(subject: Subject) -> None:
    """Counted by the engine."""
    import re

    runs = getattr(subject.method, "runs", "")
    found = subject.explain(subject.net(), images(2), 1).provenance
    for letter, name, made in (
        ("F", "forwards", found.forwards),
        ("B", "backwards", found.backwards),
    ):
        plain = re.fullmatch(r"\d*[FB](\s*\+\s*\d*[FB])*", runs.strip())
        counts = [int(n or 1) for n in re.findall(rf"(\d*){letter}", runs)]
        if plain:
            ensure(
                made <= sum(counts),
                f"{made} {name} were made, but runs = {runs!r} declares {sum(counts)}: correct "
                "runs, or find out what runs the model again",
            )
