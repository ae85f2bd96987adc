"""Whether the score is affine in a layer's activations: then nothing needs to be run for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from camkit_core.layers import Layer
from camkit_core.linear import Affine, NoReading, RefusedError
from camkit_core.owners import Owners
from camkit_core.rerun import Way, rounding, run_again
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
    index = torch.arange(_SPOTS, device=clean.device) % len(clean)
    changes = _changes(clean)
    run = _watched(session, target, way, clean, clean[index] + changes, index)
    if isinstance(run, str):
        session.note(f"{layer.name}: the score is not known to be affine in it: {run}")
        return None
    score, gradient = run
    if not _holds(session, layer, score, (gradient[index] * changes).flatten(1), index):
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
    session: Session, target: int, way: Way, clean: Tensor, spots: Tensor, index: Tensor
) -> tuple[Tensor, Tensor] | str:
    """Scores of clean rows and of changed ones, and the gradient at the clean; or what forbids it.

    Shapes: clean `[N, C, *S]`, spots `[P, C, *S]`, their owners `[P]`; scores `[N + P]`.
    """
    images = len(clean)
    leaf = torch.cat([clean, spots]).requires_grad_()
    owners = Owners.of(torch.cat([session.owner, index]), images)
    affine = Affine(leaf)
    try:
        with torch.inference_mode(False), torch.enable_grad(), affine, NoReading(affine):
            output = run_again(session, way, leaf, owners, grad=True)
            score = session.bound[target](output, owners.index)
    except RefusedError as error:
        return str(error)
    # Where it is watched, somebody's code may take another way, and fail in any manner.
    except Exception as error:
        if out_of_memory(error):
            raise
        return f"it could not be watched ({type(error).__name__}: {error})"
    if affine.reason:
        return affine.reason
    if not score.requires_grad:
        return (
            "no gradient reaches it" if affine.depends(score) else (score, torch.zeros_like(clean))
        )
    session.tally.tails += 1
    session.tally.backwards += 1
    counted = (torch.arange(len(score), device=score.device) < images).to(score)
    with torch.inference_mode(False), torch.enable_grad():
        (found,) = torch.autograd.grad(score, leaf, counted, materialize_grads=True)
    return score.detach(), exact(found[:images].detach())


def _holds(session: Session, layer: Layer, score: Tensor, gain: Tensor, index: Tensor) -> bool:
    """Whether changed rows score what the gradient says: `gain [P, K]` sums to the change."""
    before, after = score[index], score[-len(index) :]
    off = (after - before - gain.sum(1)).abs()
    scale = before.abs() + gain.abs().sum(1)
    return bool((off <= 10 * rounding(session, layer) * scale).all().item())


def _changes(clean: Tensor) -> Tensor:
    """Changes `[3, C, *S]`: noise, half of the channels gone, half of the places doubled.

    The noise is the product of one of channels and one of places: few numbers are drawn.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(clean)

    images, channels, *size = clean.shape
    ones = [1] * len(size)
    noise = (2 * draw(channels, *ones) - 1) * (2 * draw(1, *size) - 1) * clean[0].abs().amax()
    gone = -clean[1 % images] * (draw(channels, *ones) < 0.5)
    twice = clean[2 % images] * (draw(1, *size) < 0.5)
    return torch.stack([noise, gone, twice])
