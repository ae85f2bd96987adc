"""A map belongs to one image, one call and one seed."""

from __future__ import annotations

import torch

from camkit_core.need import Claim
from camkit_core.testing.judge import EXACT, bits, different, ensure, equal, fail
from camkit_core.testing.networks import images
from camkit_core.testing.subject import Subject, blind, both, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")

CLASSES = [1, 3, 0, 2]


@SUITE.check("the map of an image does not depend on the rest of the batch (1e-9)")
def batch_independence(subject: Subject) -> None:
    """A batch equals its images one by one."""
    net, x = subject.net(), images(4)
    together = subject.raw(net, x, CLASSES)
    for row, c in enumerate(CLASSES):
        alone = subject.raw(net, x[row : row + 1], [c])
        equal(
            together[row : row + 1],
            alone,
            f"image {row} explained in a batch of 4 and alone; a mean, maximum or target was "
            "probably taken over the batch, or an axis of length 1 was squeezed",
        )


@SUITE.check("reordering the batch reorders the maps (1e-9)")
def batch_permutation(subject: Subject) -> None:
    """Images and targets in another order."""
    net, x, order = subject.net(), images(4), [2, 0, 3, 1]
    before = subject.raw(net, x, CLASSES)
    after = subject.raw(net, x[order], [CLASSES[row] for row in order])
    equal(after, before[order], "the batch in another order; rows are probably mixed up")


@SUITE.check("the same image twice in a batch has the same map (1e-9)")
def duplicates(subject: Subject) -> None:
    """Two equal rows, same class."""
    net, x = subject.net(), images(2)[[0, 1, 0]]
    maps = subject.raw(net, x, [1, 2, 1])
    equal(
        maps[2:],
        maps[:1],
        "one image twice in a batch; per-row state or noise is probably to blame",
    )


@SUITE.check("a call does not depend on the calls before it (bit for bit)")
def no_memory(subject: Subject) -> None:
    """x1, then x2, equals x2 by a fresh start; and x2 again."""
    net, x, y = subject.net(), images(2), images(2, seed=1)
    fresh = subject.raw(net, y, 2)
    subject.raw(net, x, 1)
    again = subject.raw(net, y, 2)
    bits(again, fresh, "explained, something else explained, explained again: state is kept")
    other = subject.raw(subject.net(stride=2), images(1, size=(9, 12)), 0)
    ensure(len(other) == 1, "an image of another size after this got the wrong number of maps")
    bits(subject.raw(net, y, 2), fresh, "explained again after another model: state is kept")


@SUITE.check("equal seeds give equal maps, and the global generator is not used (bit for bit)")
def seed(subject: Subject) -> None:
    """Seeds decide, and only where the method says so."""
    net, x = subject.net(), images(2)
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(11)
    drawn = torch.random.get_rng_state()
    try:
        first = subject.raw(net, x, seed=1)
        touched = not torch.equal(torch.random.get_rng_state(), drawn)
        torch.default_generator.manual_seed(12)
        second = subject.raw(net, x, seed=1)
    finally:
        torch.random.set_rng_state(before)
    bits(second, first, "called twice with one seed; use capture.generator for random numbers")
    if touched:
        fail("the global random generator was used: draw with generator=capture.generator")
    if subject.method is not None:
        _claimed(subject, first, subject.raw(net, x, seed=2))


def _claimed(subject: Subject, first: torch.Tensor, other: torch.Tensor) -> None:
    if Claim.DETERMINISTIC in subject.claims:
        bits(other, first, "claims DETERMINISTIC, but seeds 1 and 2 give different maps")
    else:
        different(
            other,
            first,
            "seeds 1 and 2 were expected to differ; if the method is not random, add "
            "Claim.DETERMINISTIC to its claims",
        )


@SUITE.check("the map follows the class asked for exactly if the method says so (1e-2, 1e-12)")
def class_sensitivity(subject: Subject) -> None:
    """`class_discriminative` is true."""
    net, x = subject.net(), images(2)
    one, other = subject.raw(net, x, 1), subject.raw(net, x, 2)
    if subject.class_discriminative:
        different(
            one,
            other,
            "classes 1 and 2 of one image; the target is probably ignored (if the method means "
            "to, say class_discriminative = False)",
            margin=1e-2,
        )
    else:
        equal(
            one,
            other,
            "classes 1 and 2, although class_discriminative = False; set it to True",
            1e-12,
        )


@SUITE.check("target None is the top class of each image on the clean input (1e-9)")
def predicted_class(subject: Subject) -> None:
    """The model's own answer."""
    net, x = subject.net(), images(6)
    fc = net.fc
    with torch.no_grad():
        fc.bias -= net(x).mean(0)
        top = net(x).argmax(1).tolist()
    wanted, found = subject.raw(net, x, top), subject.raw(net, x, None)
    rows = [row for row, one in enumerate(wanted) if float(one.std(correction=0)) > 0]
    ensure(
        len({top[row] for row in rows}) > 1 or not subject.class_discriminative,
        "fewer than two of the kit's images and classes have something to show",
    )
    equal(found[rows], wanted[rows], "target None and the top class of each image")


@SUITE.check("adding classes that are not explained changes nothing (1e-9)", unless=blind)
def unrelated_classes(subject: Subject) -> None:
    """Three more logits."""
    from camkit_core.testing.twins import with_more_classes

    net, x = subject.net(), images(2)
    equal(
        subject.raw(with_more_classes(net), x, 1),
        subject.raw(net, x, 1),
        "three unrelated classes added to the model; the method looks at other logits than the "
        "score",
    )


@SUITE.check(
    "several methods and targets in one call give what separate calls give (1e-9)",
    unless=own_engine,
)
def shared_call(subject: Subject) -> None:
    """`compare` with another method before and behind."""
    from camkit_core.api import compare
    from camkit_core.testing.fixtures import Witness
    from camkit_core.testing.networks import LAYER
    from camkit_core.testing.subject import bare_registry

    net, x, method, witness = subject.net(), images(2), subject.method, Witness()
    alone = {target: subject.raw(net, x, target) for target in (1, 2)}
    for methods in ([method, witness], [witness, method]):
        targets = [subject.asked(target) for target in (1, 2)]
        found = compare(net, x, methods, targets, LAYER, registry=bare_registry())
        for position, target in enumerate((1, 2)):
            (ours,) = found[method, position].raw.values()
            equal(ours, alone[target], f"class {target} in a comparison and alone", EXACT)


@SUITE.check(
    "two layers in either order give the maps they give alone (1e-9)",
    unless=both(own_engine, lambda s: "" if s.at_layer and not s.needs_head else "one layer only"),
)
def several_layers(subject: Subject) -> None:
    """`features.0` and `features.2`."""
    from camkit_core.need import Need

    net, x, names = subject.net(), images(2), ["features.0", "features.2"]
    if Need.LAYERS in subject.needs:
        one = next(iter(subject.explain(net, x, 1, names).raw.values()))
        ensure(bool(torch.isfinite(one).all()), "the joint map of two layers is not finite")
        return
    alone = {name: subject.raw(net, x, 1, name) for name in names}
    for order in (names, names[::-1]):
        for name, ours in subject.explain(net, x, 1, order).raw.items():
            equal(ours, alone[name], f"layer {name} in {order} and alone")
