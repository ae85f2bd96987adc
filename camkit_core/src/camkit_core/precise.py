"""How perturbed images are scored: by the model as it is, or by a private copy that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.owners import Owners
from camkit_core.private import Recorded, folded
from camkit_core.protocols import Rows
from camkit_core.remember import recall, remember
from camkit_core.rerun import Way, key, rounding, run_again
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.tail import out_of_memory
from camkit_core.tree import map_tensors
from camkit_core.verdict import agree

WORTH_IT = 256
"""Rows from which on a private copy is tried."""
_TRIAL = 8
_SAMPLE = 32

Score = Callable[[Way, Tensor, Owners], Tensor]


def plain(session: Session, root: nn.Module, part: Tensor, owners: Owners) -> Any:
    """Output for perturbed images; bind session and root first."""
    # A copy, because some models normalize their input in place.
    image = part.to(session.image.dtype, copy=True)
    return session.inputs.usable().rows(image, owners.index).call(root)


def as_is(session: Session) -> Way:
    """The model itself."""
    if "as is" not in session.memo:
        session.memo["as is"] = partial(plain, session, Shadow(session.model, []).root)
    way: Way = session.memo["as is"]
    return way


def way_for(session: Session, rows: Rows, score: Score) -> Way:
    """How to score these rows in the precision that the caller asked for."""
    single = session.image.dtype == torch.float32 and rounding(session) < 1e-3
    if session.precision == "fast":
        if single:
            return _fast(session, rows, score)
        session.note("precision='fast' changes nothing here: it is for float32 without autocast")
    elif single and len(rows) >= WORTH_IT and not _known_slow(session):
        return _exact(session, rows)
    return as_is(session)


def _known_slow(session: Session) -> bool:
    return recall(session.model, key(session, "private")) is False


def _exact(session: Session, rows: Rows) -> Way:
    """The copy, where it agrees and is faster; else the model itself."""
    if "private" in session.memo:
        known: Way = session.memo["private"]
        return known
    part, owners = _some(session, rows, _TRIAL)
    way, usual = _private(session), as_is(session)
    won = way is not None and _agrees(session, way, usual, part, owners)
    if way is None or not won:
        way = usual
    elif recall(session.model, key(session, "private")) is None:
        won = _faster(session, way, usual, part, owners)
        way = way if won else usual
    remember(session.model, key(session, "private"), won)
    session.memo["private"] = way
    if won:
        session.note("perturbed images ran on a copy with folded normalization, channels last")
    return way


def _fast(session: Session, rows: Rows, score: Score) -> Way:
    """The copy in bfloat16, and how well it agrees on some rows."""
    if "fast" not in session.memo:
        session.memo["fast"] = _Half(session, _private(session) or as_is(session))
    way: Way = session.memo["fast"]
    part, owners = _some(session, rows, _SAMPLE)
    wanted, found = score(as_is(session), part, owners), score(way, part, owners)
    session.tally.whole(2 * len(part) / owners.images, 2)
    session.note(
        f"precision='fast': bfloat16; on {len(part)} of {len(rows):,} rows rank correlation "
        f"{rank_correlation(found, wanted):.3f} with exact scores, largest score error "
        f"{(found - wanted).abs().max():.2g} where scores spread by {wanted.std():.2g}"
    )
    return way


class _Half:
    """Runs another way in bfloat16."""

    def __init__(self, session: Session, way: Way) -> None:
        self._device, self._way = session.image.device.type, way

    def __call__(self, part: Tensor, owners: Owners) -> Any:
        with torch.autocast(self._device, torch.bfloat16):
            return self._way(part, owners)


def _private(session: Session) -> Way | None:
    """A private copy, made after one recorded row; None if the model does not allow for it."""
    recorded = Recorded(session.model)
    owners = Owners.of(session.owner[:1], len(session.inputs.image))
    try:
        with recorded.consumers:
            run_again(session, partial(plain, session, recorded.root), session.image[:1], owners)
        session.tally.whole(1 / owners.images)
        pairs = list(recorded.pairs())
        return partial(_channels_last, session, folded(session.model, pairs))
    # A copy may fail for reasons of the model's own; the model itself always works.
    except Exception as error:
        if out_of_memory(error):
            raise
        return None


def _channels_last(session: Session, root: nn.Module, part: Tensor, owners: Owners) -> Any:
    if part.ndim == 4:
        part = part.contiguous(memory_format=torch.channels_last)
    return map_tensors(_contiguous, plain(session, root, part, owners))


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.contiguous()


def _some(session: Session, rows: Rows, most: int) -> tuple[Tensor, Owners]:
    """Rows spread evenly over all of them."""
    count = len(rows)
    places = torch.linspace(0, count - 1, min(most, count)).long().unique().tolist()
    index = rows.owner.to(session.image.device)[places]
    part = torch.cat([rows[place : place + 1] for place in places])
    return part, Owners.of(index, len(session.inputs.image))


def _agrees(session: Session, way: Way, usual: Way, part: Tensor, owners: Owners) -> bool:
    part, owners = part[:2], Owners.of(owners.index[:2], owners.images)
    session.tally.whole(2 * len(part) / owners.images, 2)
    wanted = run_again(session, usual, part, owners)
    try:
        return agree(run_again(session, way, part, owners), wanted, rounding(session))
    except Exception as error:  # code that cannot have its data lie channels last
        if out_of_memory(error):
            raise
        return False


def _faster(session: Session, way: Way, usual: Way, part: Tensor, owners: Owners) -> bool:
    best: dict[Way, float] = {}
    for one in (usual, way, usual, way):
        start = time.perf_counter()
        run_again(session, one, part, owners)
        if part.device.type == "cuda":
            torch.cuda.synchronize(part.device)
        took = time.perf_counter() - start
        best[one] = min(took, best.get(one, took))
        session.tally.whole(len(part) / owners.images)
    return best[way] < best[usual]


def rank_correlation(found: Tensor, wanted: Tensor) -> float:
    """Spearman's correlation of two vectors; NaN where one of them does not vary."""
    ranks = torch.stack([one.argsort().argsort().double() for one in (found, wanted)])
    return float(torch.corrcoef(ranks)[0, 1]) if len(found) > 1 else float("nan")
