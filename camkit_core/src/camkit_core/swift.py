"""Of two ways to run rows that must agree, the faster one: tried once and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from camkit_core.owners import Owners
from camkit_core.protocols import Rows
from camkit_core.remember import recall, remember
from camkit_core.rerun import Way, rounding, run_again
from camkit_core.session import Session
from camkit_core.tail import out_of_memory
from camkit_core.verdict import agree

WORTH_IT = 256
"""Rows from which on another way is tried."""
_TRIAL = 8

Count = Callable[[float], None]
"""Told how many rows ran, in batches of the clean one."""


def swifter(
    session: Session, place: Hashable, rows: Rows, usual: Way, other: Way | None, count: Count
) -> bool:
    """Whether `other` gives the same outputs as `usual`, in less time.

    Args:
        session: the clean pass.
        place: what the answer is remembered under.
        rows: some of them are run.
        usual: the way that is known to be right.
        other: None if it could not be made.
        count: told about every run.
    """
    known = recall(session.model, place)
    if known is False or other is None:
        remember(session.model, place, False)
        return False
    part, owners = some(session, rows, _few(session))
    won = _agrees(session, other, usual, part, owners, count)
    if won and known is None:
        won = _faster(session, other, usual, part, owners, count)
    remember(session.model, place, won)
    return won


class Unless:
    """A faster way, unless it fails: then the usual one from there on, and the next time."""

    def __init__(self, session: Session, place: Hashable, faster: Way, usual: Way) -> None:
        """`place` is where it is remembered that `faster` was found to be so."""
        self._session, self._place, self._way, self._usual = session, place, faster, usual

    def __call__(self, part: Tensor, owners: Owners) -> Any:
        """Outputs for rows."""
        try:
            return self._way(part, owners)
        except Exception as error:
            if out_of_memory(error) or self._way is self._usual:
                raise
        remember(self._session.model, self._place, False)
        self._way = self._usual
        return self._way(part, owners)


def _few(session: Session) -> int:
    """Rows of a trial: no more at a time than the caller allows."""
    wanted = session.batch_size
    return _TRIAL if wanted is None else min(_TRIAL, wanted if isinstance(wanted, int) else 1)


def some(session: Session, rows: Rows, most: int) -> tuple[Tensor, Owners]:
    """Rows spread evenly over all of them."""
    count = len(rows)
    places = torch.linspace(0, count - 1, min(most, count)).long().unique().tolist()
    index = rows.owner.to(session.image.device)[places]
    part = torch.cat([rows[place : place + 1] for place in places])
    return part, Owners.of(index, len(session.inputs.image))


def _agrees(
    session: Session, way: Way, usual: Way, part: Tensor, owners: Owners, count: Count
) -> bool:
    part, owners = part[:2], Owners.of(owners.index[:2], owners.images)
    count(2 * len(part) / owners.images)
    wanted = run_again(session, usual, part, owners)
    try:
        return agree(run_again(session, way, part, owners), wanted, rounding(session))
    except Exception as error:  # code that cannot have its data lie channels last
        if out_of_memory(error):
            raise
        return False


def _faster(
    session: Session, way: Way, usual: Way, part: Tensor, owners: Owners, count: Count
) -> bool:
    best: dict[Way, float] = {}
    for one in (usual, way, usual, way):
        start = time.perf_counter()
        run_again(session, one, part, owners)
        if part.device.type == "cuda":
            torch.cuda.synchronize(part.device)
        took = time.perf_counter() - start
        best[one] = min(took, best.get(one, took))
        count(len(part) / owners.images)
    return best[way] < best[usual]
