"""Methods that run the model again: chunks, frozen targets, random draws."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from camkit_core.declared import allowed_rows
from camkit_core.errors import BudgetError
from camkit_core.need import Claim, Need
from camkit_core.testing.judge import ensure, equal, fail, refused
from camkit_core.testing.networks import SwitchNet, images
from camkit_core.testing.subject import Subject, attention_only, both, no_rows, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")

_RUNS_AGAIN = both(own_engine, no_rows)


def _no_chunks(subject: Subject) -> str:
    rows = Need.SCORES | Need.TAIL
    return _RUNS_AGAIN(subject) or ("" if subject.needs & rows else "it asks for no rows")


@SUITE.check("batch_size 1, 7 and unlimited give the same map (1e-9)", unless=_no_chunks)
def chunks(subject: Subject) -> None:
    """Rows are scored one by one, by sevens, and all together."""
    net, x = subject.net(), images(2)
    before = subject.raw(net, x)
    for size in (1, 7, 10_000):
        (after,) = subject.explain(net, x, 1, batch_size=size).raw.values()
        equal(after, before, f"batch_size={size}; results must not depend on the chunk's size")


def _undeclared(subject: Subject) -> str:
    runs = getattr(subject.method, "runs", "")
    free = allowed_rows(runs, (1,), 1) == math.inf
    return _no_chunks(subject) or ("`runs` is free text" if free else "")


@SUITE.check("with default options it asks for no more runs than it declares", unless=_undeclared)
def declared_runs(subject: Subject) -> None:
    """`runs = "1F + K T"` is what listings show and users plan with."""
    method = type(subject.method)()
    usual = Subject(subject.name, subject.needs, subject.claims, method=method)
    for issue in usual.explain(subject.net(), images(1), 1, batch_size=64).issues:
        if issue.code == "more_runs":
            fail(issue.message)


@SUITE.check("a budget of one forward is refused before the work starts", unless=_RUNS_AGAIN)
def budget(subject: Subject) -> None:
    """`BudgetError` with both numbers."""
    made = subject.explain(subject.net(), images(2)).provenance.forwards
    if made < 2:
        return
    with refused(BudgetError, ("budget=1",), f"budget=1 for {made} forwards"):
        subject.explain(subject.net(), images(2), budget=1)


@SUITE.check(
    "what perturbed images answer does not change which class is explained (1e-9)",
    unless=attention_only,
)
def frozen_target(subject: Subject) -> None:
    """A model whose answer changes as soon as anything is taken away from the image."""
    net, x = SwitchNet(seed=2), 2 * images(1)
    with torch.no_grad():
        net.balance(x)
        top, bare = net(x).argmax(1).tolist(), net(torch.zeros_like(x)).argmax(1).tolist()
    ensure(top == [0] and bare == [1], "the kit's model keeps its answer: a defect of it")
    equal(
        subject.raw(net, x, None),
        subject.raw(net, x, top),
        "target None and the top class of the clean image, on a model that answers otherwise when "
        "parts of the image are gone; the class is probably chosen anew in every run",
    )


SAMPLES = ("samples", "n_samples", "masks", "n_masks", "draws")


def _samples(subject: Subject) -> str:
    fields = getattr(type(subject.method), "model_fields", {})
    return next((name for name in SAMPLES if name in fields), "")


def _not_random(subject: Subject) -> str:
    if subject.method is None or Claim.DETERMINISTIC in subject.claims:
        return "it is not random"
    found = _samples(subject)
    return "" if found else f"it has no option for the number of samples ({', '.join(SAMPLES)})"


@SUITE.check(
    "the spread over seeds falls as 1/sqrt(samples) (slope -0.5 +- 0.15), around one mean (z < 5)",
    tier="full",
    unless=_not_random,
)
def monte_carlo(subject: Subject) -> None:
    """16 and 256 samples, 24 seeds each."""
    few, many = (_over_seeds(subject, count) for count in (16, 256))
    spread = [maps.std(0).mean().item() for maps in (few, many)]
    slope = math.log(spread[1] / spread[0]) / math.log(256 / 16)
    if abs(slope + 0.5) > 0.15:
        fail(
            f"16 samples spread by {spread[0]:.3g}, 256 by {spread[1]:.3g}: slope {slope:.2f}, "
            "expected -0.5; samples are probably not independent, or reused"
        )
    error = (few.var(0) / len(few) + many.var(0) / len(many)).sqrt()
    z = ((few.mean(0) - many.mean(0)) / error.clamp_min(1e-12)).abs()
    ensure(float(z.max()) < 5, f"the mean moves with the number of samples (z = {z.max():.1f})")


def _over_seeds(subject: Subject, count: int) -> Tensor:
    method: Any = subject.method
    own = {name: getattr(method, name) for name in method.model_fields_set}
    again = type(method)(**{**own, _samples(subject): count})
    net, x = subject.net(), images(1)
    one = Subject(subject.name, subject.needs, subject.claims, method=again)
    return torch.stack([one.raw(net, x, seed=s)[0] for s in range(24)])
