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
from camkit_core.rerun import rounding, run_again
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
    found = _gradient(session, target, layer)
    if isinstance(found, str):
        session.note(f"{layer.name}: the score is not known to be affine in it: {found}")
        return None
    if not _holds(session, target, layer, found):
        session.note(
            f"{layer.name}: the score looked affine in it, but changed rows scored otherwise"
        )
        return None
    session.note(
        f"{layer.name}: the score is affine in it (every operator checked, {_SPOTS} changed rows "
        "run), so closed forms hold"
    )
    return found


def _gradient(session: Session, target: int, layer: Layer) -> Tensor | str:
    """The gradient, or what is not affine."""
    way, _ = tail_of(session, layer)
    leaf = session.activations(layer.name).clone().requires_grad_()
    owners = Owners.of(session.owner, len(leaf))
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
        return torch.zeros_like(leaf) if not affine.depends(score) else "no gradient reaches it"
    session.tally.tails += 1
    session.tally.backwards += 1
    with torch.inference_mode(False), torch.enable_grad():
        (found,) = torch.autograd.grad(score, leaf, torch.ones_like(score), materialize_grads=True)
    return exact(found.detach())


def _holds(session: Session, target: int, layer: Layer, gradient: Tensor) -> bool:
    """Whether random rows, run from the layer on, score what the gradient says."""
    from camkit_core.perturb import scored

    way, _ = tail_of(session, layer)
    clean = session.activations(layer.name)
    index = torch.arange(_SPOTS, device=clean.device) % len(clean)
    change = _changes(clean)[:_SPOTS]
    owners = Owners.of(index, len(clean))
    found = scored(session, target, way, clean[index] + change, owners)
    session.tally.tails += 1
    gain, score = gradient[index] * change, session.score(target)[index]
    off = (found - score - gain.flatten(1).sum(1)).abs()
    scale = score.abs() + gain.abs().flatten(1).sum(1)
    return bool((off <= 10 * rounding(session, layer) * scale).all().item())


def _changes(clean: Tensor) -> Tensor:
    """Changes `[3, C, *S]`: noise, half of the channels gone, half of the places doubled."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(clean)

    images, channels, *size = clean.shape
    ones = [1] * len(size)
    noise = (2 * draw(channels, *size) - 1) * clean[0].abs().amax()
    gone = -clean[1 % images] * (draw(channels, *ones) < 0.5)
    twice = clean[2 % images] * (draw(1, *size) < 0.5)
    return torch.stack([noise, gone, twice])
