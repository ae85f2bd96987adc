"""How perturbed images are scored: by the model as it is, or by a private copy that is faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.common import common_arguments
from camkit_core.owners import Owners
from camkit_core.planner import memory_limit
from camkit_core.private import Recorded, folded, weights
from camkit_core.protocols import Rows
from camkit_core.remember import recall
from camkit_core.rerun import Way, key, rounding, run_again
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.swift import WORTH_IT, some, swifter
from camkit_core.tail import out_of_memory
from camkit_core.tree import map_tensors

_SAMPLE = 32

Score = Callable[[Way, Tensor, Owners], Tensor]


def plain(session: Session, root: nn.Module, part: Tensor, owners: Owners) -> Any:
    """Output for perturbed images; bind session and root first."""
    # A copy, because some models normalize their input in place.
    image = part.to(session.image.dtype, copy=True)
    common = common_arguments(session)
    return session.inputs.usable().rows(image, owners.index, common).call(root)


def as_is(session: Session) -> Way:
    """The model itself."""
    if "as is" not in session.memo:
        session.memo["as is"] = partial(plain, session.weak, Shadow(session.model, []).root)
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
    if "private" not in session.memo and not _affordable(session):
        session.memo["private"] = as_is(session)
    if "private" not in session.memo:
        way, usual, place = _private(session), as_is(session), key(session, "private")
        won = swifter(session, place, rows, usual, way, lambda part: session.tally.whole(part))
        session.memo["private"] = way if won else usual
        if won:
            session.held += weights(session.model)
            session.note("perturbed images ran on a copy with folded normalization, channels last")
    known: Way = session.memo["private"]
    return known


def _affordable(session: Session) -> bool:
    """Whether a second set of weights leaves half of the memory that the caller allows."""
    limit = session.batch_size
    return not isinstance(limit, str) or 2 * weights(session.model) <= memory_limit(limit)


def _fast(session: Session, rows: Rows, score: Score) -> Way:
    """The copy in bfloat16, and how well it agrees on some rows."""
    if "fast" not in session.memo:
        session.memo["fast"] = _Half(session.image.device.type, _private(session) or as_is(session))
    way: Way = session.memo["fast"]
    part, owners = some(session, rows, _SAMPLE)
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

    def __init__(self, device: str, way: Way) -> None:
        self._device, self._way = device, way

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
        return partial(_channels_last, session.weak, folded(session.model, pairs))
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


def rank_correlation(found: Tensor, wanted: Tensor) -> float:
    """Spearman's correlation of two vectors; NaN where one of them does not vary."""
    ranks = torch.stack([one.argsort().argsort().double() for one in (found, wanted)])
    return float(torch.corrcoef(ranks)[0, 1]) if len(found) > 1 else float("nan")
