"""Whether a model may be run from a layer on: tried once per model, layer and shape."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from camkit_core.layers import Layer
from camkit_core.meter import Flops
from camkit_core.owners import Owners
from camkit_core.record import run
from camkit_core.recorder import Plan
from camkit_core.remember import recall, remember
from camkit_core.rerun import Way, afford, key, rounding, run_again
from camkit_core.session import Session
from camkit_core.tail import Replay, Whole, out_of_memory
from camkit_core.trace import Place, Trace
from camkit_core.tree import map_tensors, take, tensors
from camkit_core.unread import Reads, place_of

_SMALL = 100
"""Differences up to so many times the allowed ones may be amplified rounding."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out.

    Attributes:
        problem: why only the whole model will do; empty if the tail was exact.
        copy: recorded values need memory of their own for every row.
        clone: rows too, because they are written to.
        copied: recorded calls that were copied before something wrote to their output.
        share: work of one row in the tail, as part of a whole forward.
    """

    problem: str = ""
    copy: bool = False
    clone: bool = False
    copied: frozenset[Place] = frozenset()
    share: float = 1.0


def verdict(session: Session, layer: Layer) -> Verdict:
    """The remembered verdict, or a new one from one row run both ways."""
    place = key(session, "tail", layer)
    known = recall(session.model, place)
    if known is None:
        known = _judge(session, layer)
        remember(session.model, place, known)
    assert isinstance(known, Verdict)
    return known


def trace_of(session: Session, layer: Layer) -> Trace | None:
    """What came before the layer, recorded once more if some of it is wrong by now, or missing."""
    found = session.memo.get(("trace", layer.name)) or session.done.traces.get(layer.name)
    if found is None or not (found.rewritten or found.incomplete):
        return found
    return _recorded(session, layer, found)


def _recorded(session: Session, layer: Layer, found: Trace) -> Trace | None:
    """Everything once more, with copies of what is written to, or may be: it was not watched."""
    copied = found.copied | found.rewritten
    remember(session.model, ("copied", layer.name), copied)
    if found.unread:
        remember(session.model, _unread(session, layer), frozenset())
        copied |= found.unread
    afford(session, 1, "recording what comes before the layer takes 1 forward more")
    with session.autocast():
        plan = Plan(layers=(layer,), tail=True, copied=copied)
        again = run(session.model, session.inputs, plan)
    session.tally.whole(again.forwards, again.forwards)
    session.memo["trace", layer.name] = again.traces.get(layer.name)
    return again.traces.get(layer.name)


def tail_of(session: Session, layer: Layer) -> tuple[Way, float]:
    """The fastest exact way to run from a layer on, and the work of a row in forwards."""
    place = ("way", layer.name)
    if place not in session.memo:
        session.memo[place] = _made(session, layer)
    way: tuple[Way, float] = session.memo[place]
    return way


def _made(session: Session, layer: Layer) -> tuple[Way, float]:
    found, trace = verdict(session, layer), trace_of(session, layer)
    if not found.problem and trace is not None:
        again = partial(trace_of, session.weak, layer)
        replay = Replay(session.weak, trace, copy=found.copy, clone=found.clone, again=again)
        return replay, found.share
    session.memo["slow", layer.name] = text = (
        f"the whole model ran for every row changed at {layer.name}, because it cannot be run "
        f"from there on: {found.problem}"
    )
    session.note(f"SLOW: {text}")
    return Whole(session.weak, layer), 1.0


def _unread(session: Session, layer: Layer) -> Hashable:
    return place_of(layer.name, (session.inputs.args, session.inputs.kwargs))


def _judge(session: Session, layer: Layer) -> Verdict:
    trace = trace_of(session, layer)
    if trace is not None and trace.unread:  # for another model, in the same place
        trace = _recorded(session, layer, trace)
    if trace is None:
        return Verdict("the layer is called past the module tree")
    if trace.problem:
        return Verdict(trace.problem)
    if trace.rewritten:
        return Verdict("what came before the layer is written to in another way every time")
    return _Trial(session, layer, trace).verdict()


class _Trial:
    """Clean activations of all images and one changed row, run both ways."""

    def __init__(self, session: Session, layer: Layer, trace: Trace) -> None:
        self._session, self._layer, self._trace = session, layer, trace
        clean = session.activations(layer.name)
        self._images, self._allowed = len(clean), rounding(session, layer)
        self._rows = torch.cat([clean, changed(clean[:1])])
        index = torch.cat([session.owner, session.owner[:1]])
        self._owners = Owners.of(index, self._images)

    def verdict(self) -> Verdict:
        """The first way that is exact; else the reason why none is."""
        afford(self._session, 1, "checking that the model can be run from the layer on takes 1")
        wanted, cost = self._whole()
        problem = ""
        for copy in (False, True):
            found = self._tried(copy=copy)
            if isinstance(found, str):
                problem = problem or found
                continue
            output, clone, work = found
            if self._same(output, wanted) and self._alone(wanted, copy=copy, clone=clone):
                share = min(1.0, work / len(self._rows) / cost) if cost else 1.0
                self._look_who_reads(wanted, copy=copy, clone=clone)
                return Verdict("", copy, clone, self._trace.copied, share)
            problem = problem or "its answers differed from the whole model's"
        return Verdict(problem)

    def _whole(self) -> tuple[Any, int]:
        last = Owners.of(self._owners.index[-1:], self._images)
        whole = Whole(self._session, self._layer)
        self._session.tally.whole()
        try:
            with Flops() as flops:
                return run_again(self._session, whole, self._rows[-1:], last), flops.total
        # Compiled code, say, may not run while it is watched.
        except Exception as error:
            if out_of_memory(error):
                raise
            return run_again(self._session, whole, self._rows[-1:], last), 0

    def _tried(self, *, copy: bool) -> tuple[Any, bool, int] | str:
        """Output of the tail, whether it writes into the rows, and its work; or what went wrong."""
        rows = self._rows.clone()
        try:
            with Flops() as flops:
                replay = Replay(self._session, self._trace, copy=copy, clone=False)
                output = run_again(self._session, replay, rows, self._owners)
        # A part of somebody's model, run in a way it was not made for, may raise anything.
        except Exception as error:
            if out_of_memory(error):
                raise
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        self._session.tally.tail()
        return output, replay.wrote, flops.total

    def _amplified(self, output: Any, rows: Tensor, owners: Owners) -> bool:
        """A second opinion on small differences: the whole model on the very same rows.

        Some networks amplify the rounding that depends on the number of rows; then only runs of
        equally many can be compared.
        """
        whole = Whole(self._session, self._layer)
        self._session.tally.whole(len(rows) / self._images)
        return agree(output, run_again(self._session, whole, rows, owners), self._allowed)

    def _alone(self, wanted: Any, *, copy: bool, clone: bool) -> bool:
        """Whether rows of one image among several, which are spread in another way, agree too."""
        if self._images == 1:
            return True
        rows = torch.cat([self._rows[-1:]] * 2)
        owners = Owners.of(torch.cat([self._owners.index[-1:]] * 2), self._images)
        replay = Replay(self._session, self._trace, copy=copy, clone=clone)
        try:
            output = run_again(self._session, replay, rows, owners)
        except Exception as error:  # as above
            if out_of_memory(error):
                raise
            return False
        self._session.tally.tail()
        first = torch.zeros(1, dtype=torch.long, device=owners.index.device)
        found = take(output, first, 2)
        return agree(found, wanted, self._allowed) or (
            agree(found, wanted, _SMALL * self._allowed) and self._amplified(output, rows, owners)
        )

    def _look_who_reads(self, wanted: Any, *, copy: bool, clone: bool) -> None:
        """Remember which outputs before the layer need not be kept from now on."""
        reads, session = Reads(), self._session
        watched = Replay(session, self._trace, copy=copy, clone=clone, reads=reads)
        if self._last(watched) is None:
            return
        bare = self._trace.without(reads.unread)
        found = self._last(Replay(session, bare, copy=copy, clone=clone)) if reads.unread else None
        fine = found is not None and agree(found, wanted, self._allowed)
        place = _unread(session, self._layer)
        known = recall(session.model, place)
        unread = reads.unread if fine else frozenset[Place]()
        remember(session.model, place, unread if known is None else unread & known)

    def _last(self, replay: Replay) -> Any:
        """Output for the changed row, or None."""
        last = Owners.of(self._owners.index[-1:], self._images)
        try:
            output = run_again(self._session, replay, self._rows[-1:], last)
        except Exception as error:  # code that may not be watched, or looks closely at tensors
            if out_of_memory(error):
                raise
            return None
        self._session.tally.tail(1 / self._images)
        return output

    def _same(self, output: Any, wanted: Any) -> bool:
        return self._within(output, wanted, self._allowed) or (
            self._within(output, wanted, _SMALL * self._allowed)
            and self._amplified(output, self._rows, self._owners)
        )

    def _within(self, output: Any, wanted: Any, allowed: float) -> bool:
        total = len(self._rows)
        rows = torch.arange(total, device=self._owners.index.device)
        clean = map_tensors(Tensor.detach, self._session.explained)
        return agree(take(output, rows[:-1], total), clean, allowed) and agree(
            take(output, rows[-1:], total), wanted, allowed
        )


def changed(clean: Tensor) -> Tensor:
    """Rows unlike any that were recorded: every value scaled by a random factor in [0, 2)."""
    generator = torch.Generator().manual_seed(0)
    factors = 2 * torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    return clean * factors.to(clean)


def agree(found: Any, wanted: Any, allowed: float) -> bool:
    """Equal up to a part of the largest value of each tensor."""
    pairs = list(_pairs(found, wanted))
    return bool(pairs) and all(_close(one, other, allowed) for one, other in pairs)


def _pairs(found: Any, wanted: Any) -> Iterator[tuple[Tensor | None, Tensor]]:
    mine, theirs = tensors(found), tensors(wanted)
    if len(mine) != len(theirs):
        yield None, torch.zeros(1)
        return
    yield from zip(mine, theirs, strict=True)


def _close(found: Tensor | None, wanted: Tensor, allowed: float) -> bool:
    if found is None or found.shape != wanted.shape:
        return False
    if not torch.is_floating_point(wanted) or not wanted.numel():
        return bool(torch.equal(found, wanted))
    scale = wanted.abs().amax().clamp_min(torch.finfo(wanted.dtype).tiny)
    return bool(((found - wanted).abs().amax() <= allowed * scale).item())
