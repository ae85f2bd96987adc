"""Threads, other processes, thousands of calls; and whether the weights matter."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from camkit_core.testing.judge import bits, ensure, spearman
from camkit_core.testing.networks import fill, images
from camkit_core.testing.subject import Subject, blind, both, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")


@SUITE.check("the method pickles and gives the same map afterwards", unless=own_engine)
def pickling(subject: Subject) -> None:
    """As other processes get it."""
    net, x = subject.net(), images(2)
    again = pickle.loads(pickle.dumps(subject.method))
    twin = Subject(subject.name, subject.needs, subject.claims, method=again)
    bits(twin.raw(net, x), subject.raw(net, x), "the method after pickling")


@SUITE.check("nothing keeps a model or its tensors after the call")
def memory(subject: Subject) -> None:
    """The model dies with its last reference, and the number of tensors does not grow."""
    gc.freeze()  # what is there already is none of ours, and would be looked through five times
    try:
        _leaves_nothing(subject)
    finally:
        gc.unfreeze()


def _leaves_nothing(subject: Subject) -> None:
    net, x = subject.net(), images(2)
    subject.raw(net, x)
    gc.collect()
    before = _tensors()
    for _ in range(5):
        subject.raw(net, x)
    gc.collect()
    grown = _tensors() - before
    ensure(grown <= 0, f"5 calls left {grown} tensors behind: something collects them")
    alive = weakref.ref(net)
    del net
    gc.collect()
    ensure(alive() is None, "the model is kept alive after the call: a cache, hook or closure")


def _tensors() -> int:
    return sum(type(thing) in (Tensor, torch.nn.Parameter) for thing in gc.get_objects())


@SUITE.check("two threads on one model get the maps of one (bit for bit)", tier="full")
def threads(subject: Subject) -> None:
    """2 x 25 calls for two images."""
    net, batches = subject.net(), [images(2, seed=s) for s in range(2)]
    wanted = [subject.raw(net, x) for x in batches]

    def work(which: int) -> list[Tensor]:
        return [subject.raw(net, batches[which]) for _ in range(25)]

    with ThreadPoolExecutor(2) as pool:
        for which, found in enumerate(pool.map(work, range(2))):
            for maps in found:
                bits(maps, wanted[which], "two threads on one model: calls mix")


@SUITE.check("a method explains a call within a call", tier="full", unless=own_engine)
def nested(subject: Subject) -> None:
    """The target explains another image of the same model while it scores."""
    net, x, y = subject.net(), images(2), images(2, seed=1)
    if not subject.reads_score or subject.needs_head:
        return
    inner = subject.raw(net, y, 2)

    def score(output: Tensor) -> Tensor:
        bits(subject.raw(net, y, 2), inner, "a call within a call")
        return output[1]

    bits(subject.raw(net, x, score), subject.raw(net, x, lambda o: o[1]), "around a nested call")


@SUITE.check(
    "random weights give another map (median rank correlation of 20 networks at most 0.7)",
    tier="full",
    unless=both(
        blind, lambda s: "" if s.class_discriminative else "it is the same for all classes"
    ),
)
def randomized_weights(subject: Subject) -> None:
    """Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018."""
    found = []
    for number in range(20):
        net, x = subject.net(), images(1, seed=number)
        other = copy.deepcopy(net)
        fill(other, seed=100 + number)
        found.append(spearman(subject.raw(net, x)[0], subject.raw(other, x)[0]))
    median = float(torch.tensor(found).median())
    ensure(
        median <= 0.7,
        f"maps of trained and of random weights correlate by {median:.2f} (median of 20): the map "
        "does not depend on what the model learned",
    )
