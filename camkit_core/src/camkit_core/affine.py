"""Whether the score is affine in a layer's activations: then nothing needs to be run for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from camkit_core.errors import BudgetError
from camkit_core.layers import Layer
from camkit_core.linear import Affine, NoReading, RefusedError
from camkit_core.owners import Owners
from camkit_core.rerun import Way, rounding, run_again, undisturbed
from camkit_core.session import Session
from camkit_core.tail import Whole, out_of_memory
from camkit_core.tree import exact
from camkit_core.verdict import tail_of

_ALLOWED: ContextVar[bool] = ContextVar("camkit_certificate", default=True)
_SPOTS = 3


@contextmanager
def without_certificate() -> Iterator[None]:
    """Within the block no score counts as affine: for measuring and testing the tail itself."""
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def certified(session: Session, target: int, layer: str) -> Tensor | None:
    """Gradient `[N, C, *S]` of a score that is affine in the activations of `layer`, else None."""
    if not _ALLOWED.get() or session.done.stored or not len(session.inputs.image):
        return None
    place = ("affine", target, layer)
    if place not in session.memo:
        session.memo[place] = _certify(session, target, session.layer(layer))
    found: Tensor | None = session.memo[place]
    return found


def _certify(session: Session, target: int, layer: Layer) -> Tensor | None:
    way, _ = tail_of(session, layer)
    if isinstance(way, Whole):
        return None
    clean = session.activations(layer.name)
    index = torch.arange(max(len(clean), _SPOTS), device=clean.device) % len(clean)
    rows = _changed(clean.index_select(0, index))
    run = undisturbed(way, lambda: _watched(session, target, way, rows, index))
    if isinstance(run, str):
        session.note(f"{layer.name}: the score is not known to be affine in it: {run}")
        return None
    score, gradient = run
    before = session.score(target)
    allowed = 10 * rounding(session, layer)
    if not all(
        _holds(before[owner], score[spot], (rows[spot] - clean[owner]) * gradient[owner], allowed)
        for spot, owner in enumerate(index[:_SPOTS].tolist())
    ):
        session.note(
            f"{layer.name}: the score looked affine in it, but changed rows scored otherwise"
        )
        return None
    session.note(
        f"{layer.name}: the score is affine in it (every operator checked, {_SPOTS} changed rows "
        "run), so closed forms hold"
    )
    return gradient


def _watched(
    session: Session, target: int, way: Way, rows: Tensor, index: Tensor
) -> tuple[Tensor, Tensor] | str:
    """Scores of rows `[M, C, *S]` of images `index` `[M]`, and the gradient; or what forbids it.

    The gradient `[N, C, *S]` is that of the first N rows, which belong to the N images in order.
    """
    images = len(session.inputs.image)
    owners = Owners.of(index, images)
    leaf = rows.detach().requires_grad_()
    affine = Affine(leaf)
    try:
        with torch.inference_mode(False), torch.enable_grad(), affine, NoReading(affine):
            output = run_again(session, way, leaf, owners, grad=True)
            score = session.bound[target](output, owners.index)
    except RefusedError as error:
        return str(error)
    # Where it is watched, somebody's code may take another way, and fail in any manner.
    except Exception as error:
        if out_of_memory(error) or isinstance(error, BudgetError):
            raise
        return f"it could not be watched ({type(error).__name__}: {error})"
    if affine.reason:
        return affine.reason
    if not score.requires_grad:
        return (
            "no gradient reaches it"
            if affine.depends(score)
            else (score, torch.zeros_like(rows[:images]))
        )
    session.tally.tails += 1
    session.tally.backwards += 1
    counted = (torch.arange(len(score), device=score.device) < images).to(score)
    with torch.inference_mode(False), torch.enable_grad():
        (found,) = torch.autograd.grad(score, leaf, counted, materialize_grads=True)
    return score.detach(), exact(found[:images].detach())


def _holds(before: Tensor, after: Tensor, gain: Tensor, allowed: float) -> bool:
    """Whether the score changed by what the gradient says: the entries of `gain` sum to it."""
    scale = before.abs() + gain.abs().sum()
    return bool(((after - before - gain.sum()).abs() <= allowed * scale).item())


def _changed(rows: Tensor) -> Tensor:
    """The rows `[M, C, *S]`, three changed: noise, half the channels gone, half the places doubled.

    The noise is the product of one of channels and one of places: few numbers are drawn.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(rows)

    channels, *size = rows.shape[1:]
    ones = [1] * len(size)
    largest = rows[0].abs().amax()
    largest = torch.where(largest > 0, largest, 1)
    rows[0] += (2 * draw(channels, *ones) - 1) * (2 * draw(1, *size) - 1) * largest
    rows[1] *= draw(channels, *ones) >= 0.5
    rows[2] *= 1 + (draw(1, *size) < 0.5)
    return rows
