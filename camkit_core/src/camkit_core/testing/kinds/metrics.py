"""Checks of metrics: one honest number per image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import CapabilityError
from camkit_core.explanation import Explanation
from camkit_core.protocols import Evidence, Truth
from camkit_core.testing.judge import EXACT, ensure, fail
from camkit_core.testing.kinds import evidence as ev
from camkit_core.testing.kinds.made import made
from camkit_core.testing.report import Report
from camkit_core.testing.run import NOTHING, OnFail
from camkit_core.testing.state import unchanged
from camkit_core.testing.suite import Suite, Tier


@dataclass(frozen=True)
class MetricSubject:
    """A metric."""

    metric: Any

    def needs_truth(self) -> bool:
        """Whether it cannot do without masks of the right answer."""
        found, capture = ev.explained(ev.network(), ev.picture(), ev.CLASSES)
        try:
            self.metric(found, Evidence(capture=capture))
        except CapabilityError:
            return True
        return False


SUITE: Suite[MetricSubject] = Suite("metric")


def metric_subject(metric: Any) -> tuple[MetricSubject, str]:
    """Subject and name."""
    found, name = made("metric", metric)
    return MetricSubject(found), name


def check_metric(
    metric: Any,
    *,
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
    on_fail: OnFail = "raise",
) -> Report:
    """Put a metric through its checks.

    Args:
        metric: instance, class or registered name.
        expected_failures: see `check_method`.
        tier: see `check_method`.
        on_fail: see `check_method`.

    Raises:
        ConformanceError: a check failed.
    """
    subject, name = metric_subject(metric)
    return SUITE.run(subject, name, expected_failures, tier, on_fail)


def _values(subject: MetricSubject, found: Explanation, given: Evidence) -> Tensor:
    values: Tensor = subject.metric(found, given)
    n = len(found)
    ensure(
        isinstance(values, Tensor) and list(values.shape) == [n] and values.is_floating_point(),
        f"{n} images got {_what(values)}; return one floating number per image, [{n}]",
    )
    return values.detach().double().cpu()


def _what(values: Any) -> str:
    if isinstance(values, Tensor):
        return f"{values.dtype} {list(values.shape)}"
    return type(values).__name__


def _case() -> tuple[Explanation, Evidence]:
    found, capture = ev.explained(ev.network(), ev.picture(), ev.CLASSES)
    return found, ev.evidence(capture)


@SUITE.check("one finite floating number per image")
def values(subject: MetricSubject) -> None:
    """`[N]`, and not the same for all."""
    found = _values(subject, *_case())
    ensure(bool(torch.isfinite(found).all()), f"the values of live maps are {found.tolist()}")


@SUITE.check("an image has the value it has alone (1e-9)")
def batch_independence(subject: MetricSubject) -> None:
    """In a batch of three, and one by one."""
    net, x = ev.network(), ev.picture()
    together, masks = _values(subject, *_case()), ev.truth()
    for row, c in enumerate(ev.CLASSES):
        found, capture = ev.explained(net, x[row : row + 1], [c])
        own = Truth(
            **{
                name: mask[row : row + 1]
                for name in ("target", "rivals", "cell")
                if (mask := getattr(masks, name)) is not None
            }
        )
        alone = _values(subject, found, Evidence(truth=own, capture=capture))
        _close(together[row : row + 1], alone, f"image {row} in a batch and alone")


@SUITE.check("called again it gives the same values, and the global generator is not used")
def repeatable(subject: MetricSubject) -> None:
    """Bit for bit."""
    case = _case()
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(1)
    drawn = torch.random.get_rng_state()
    try:
        first, second = _values(subject, *case), _values(subject, *case)
        touched = not torch.equal(torch.random.get_rng_state(), drawn)
    finally:
        torch.random.set_rng_state(before)
    ensure(torch.equal(first, second), f"{first.tolist()} and {second.tolist()} for one map")
    ensure(not touched, "the global random generator was used: seed one of its own")


@SUITE.check("explanation, images and model are untouched")
def untouched(subject: MetricSubject) -> None:
    """Bit for bit."""
    net, x = ev.network(), ev.picture()
    found, capture = ev.explained(net, x, ev.CLASSES)
    maps, masks = found.maps.clone(), ev.truth()
    with unchanged(net, found.inputs, "a metric"):
        subject.metric(found, Evidence(truth=masks, capture=capture))
    ensure(torch.equal(found.maps, maps), "the maps were changed")
    ensure(torch.equal(masks.target, ev.truth().target), "the truth was changed")


@SUITE.check("a map that is empty or constant is NaN or finite, never an error, for that row only")
def degenerate(subject: MetricSubject) -> None:
    """Zero, one, and a live map between them."""
    found, given = _case()
    live = _values(subject, found, given)
    for value in (0.0, 1.0):
        maps = found.maps.clone()
        maps[[0, 2]] = value
        mixed = _values(subject, _with(found, maps), given)
        _close(mixed[1:2], live[1:2], f"a live map beside maps that are {value:g} everywhere")
        ensure(
            not bool(torch.isinf(mixed).any()),
            f"maps that are {value:g} everywhere: infinite value",
        )


def _without_truth(subject: MetricSubject) -> str:
    try:
        return "" if subject.needs_truth() else "it does not compare with the truth"
    except Exception:
        return ""


@SUITE.check(
    "the truth itself scores better than its opposite, in the declared direction",
    unless=_without_truth,
)
def direction(subject: MetricSubject) -> None:
    """`higher_is_better`."""
    found, given = _case()
    assert given.truth is not None
    right = given.truth.target.to(found.maps.dtype)
    good = _values(subject, _with(found, right), given)
    bad = _values(subject, _with(found, 1 - right), given)
    sign = 1 if subject.metric.higher_is_better else -1
    both = ~(good.isnan() | bad.isnan())
    ensure(bool(both.any()), "neither the truth nor its opposite has a value")
    ensure(
        bool((sign * (good - bad))[both].min() > 0),
        f"the truth scores {good.tolist()}, its opposite {bad.tolist()}, although higher_is_better "
        f"is {subject.metric.higher_is_better}",
    )


@SUITE.check("missing evidence is refused with CapabilityError, which says what is missing")
def missing_evidence(subject: MetricSubject) -> None:
    """Neither truth nor capture."""
    found, _ = _case()
    try:
        values = subject.metric(found, Evidence())
    except CapabilityError:
        return
    except Exception as error:
        fail(
            f"without evidence it raises {type(error).__name__}; raise CapabilityError and name "
            "what is needed (MetricModel.truth does)"
        )
    ensure(list(values.shape) == [len(found)], "without evidence the values have another shape")


@SUITE.check("a name to look up, a summary, options with descriptions that survive JSON")
def card(subject: MetricSubject) -> None:
    """What listings show."""
    check_card(subject.metric, "metric")
    ensure(
        isinstance(subject.metric.higher_is_better, bool), "higher_is_better must be True or False"
    )


def check_card(thing: Any, kind: str) -> None:
    """Name, docstring, options of a configurable object."""
    from camkit_core.entries import Entry

    cls = type(thing)
    Entry(kind=kind, name=thing.name, ref=f"{cls.__module__}:{cls.__qualname__}")
    ensure(bool((cls.__doc__ or "").strip()), f"{cls.__name__} has no docstring")
    fields = getattr(cls, "model_fields", {})
    bare = [name for name, field in fields.items() if not field.description]
    ensure(not bare, f"options {bare} have no description")
    if hasattr(thing, "model_dump_json"):
        again = cls.model_validate_json(thing.model_dump_json())
        ensure(again == thing, f"{thing!r} comes back from JSON as {again!r}")


def _with(found: Explanation, maps: Tensor) -> Explanation:
    changed: Explanation = dataclasses.replace(
        found, maps=maps, raw={name: maps.clone() for name in found.raw}
    )
    return changed


def _close(found: Tensor, wanted: Tensor, what: str) -> None:
    same = torch.equal(found.isnan(), wanted.isnan())
    off = (found - wanted).abs().nan_to_num()
    ensure(
        same and bool((off <= EXACT * wanted.abs().nan_to_num().clamp_min(1e-3)).all()),
        f"{what}: {found.tolist()}, expected {wanted.tolist()}",
    )
