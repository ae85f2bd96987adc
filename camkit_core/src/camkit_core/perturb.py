"""Runs the model again: on perturbed inputs, or from a layer on with changed activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.errors import BudgetError, CaptureError, InputError
from camkit_core.outputs import select
from camkit_core.protocols import Rows
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.tree import exact, map_tensors, take, tensors

_ROWS_PER_FORWARD = 16


def input_scores(session: Session, target: int, rows: Rows) -> Tensor:
    """Scores `[M]` of perturbed images, in chunks; the target stays as bound.

    Raises:
        BudgetError: more forwards than the caller allowed.
    """
    model = Shadow(session.model, []).root

    def chunk(part: Tensor, owner: Tensor) -> Any:
        return (
            session.inputs.usable().rows(part.to(session.image.dtype, copy=True), owner).call(model)
        )

    return _collect(session, target, rows, chunk)


def tail_scores(session: Session, target: int, layer: str, rows: Rows) -> Tensor:
    """Scores `[M]` with the layer's activations replaced by rows `[M, C, *S]`.

    The whole model runs on the owner's image, and the layer's output is exchanged: correct for any
    skip connection around the layer.

    Raises:
        BudgetError: more forwards than the caller allowed.
        CaptureError: the layer did not run.
    """
    if session.done.stored:
        raise CaptureError(
            f"the output of layer {layer!r} is stored somewhere and used again from there, so "
            "exchanging it would miss that use; choose the layer before or behind it"
        )
    place = next(one for one in session.layers if one.name == layer)
    shadow = Shadow(session.model, [place.module])
    reshape, kept = session.reshapes[layer], session.done.kept[layer]
    kept = map_tensors(Tensor.detach, kept)
    images = len(session.inputs.image)
    swap = _Swap(place.call or 0)
    shadow.of(place.module).register_forward_hook(swap)

    def chunk(part: Tensor, owner: Tensor) -> Any:
        swap.begin(reshape.from_spatial(part, take(kept, owner, images)))
        inputs = session.inputs.usable().rows(session.image[owner], owner)
        output = inputs.call(shadow.root)
        if not swap.done:
            raise CaptureError(f"layer {layer!r} did not run on the copy of the model")
        return output

    return _collect(session, target, rows, chunk)


class _Swap:
    """Forward hook that exchanges one call's output."""

    def __init__(self, call: int) -> None:
        self._call = call
        self.begin(None)

    def begin(self, output: Any) -> None:
        self._output, self._seen, self.done = output, 0, False

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self._seen += 1
        if self._seen - 1 != self._call:
            return None
        self.done = True
        like = iter(tensors(output))

        def fit(tensor: Tensor) -> Tensor:
            wanted = next(like)
            return tensor.to(wanted.dtype).clone()

        return map_tensors(fit, self._output)


def _collect(session: Session, target: int, rows: Rows, chunk: Any) -> Tensor:
    size = session.batch_size or _ROWS_PER_FORWARD
    planned = -(-len(rows) // size)
    _afford(session, planned, f"{len(rows)} rows take {planned} forwards of {size} rows")
    found = list(_chunks(session, target, rows, chunk, size))
    return torch.cat(found) if found else session.score(target)[:0]


def _afford(session: Session, planned: int, what: str) -> None:
    done = session.tally.forwards
    if session.budget is not None and done + planned > session.budget:
        raise BudgetError(
            f"{what}, with {done} done already, but budget={session.budget}; raise it, raise "
            "batch_size, or choose a cheaper method (see `camkit methods`)"
        )


def _chunks(session: Session, target: int, rows: Rows, chunk: Any, size: int) -> Iterator[Tensor]:
    bound, owners = session.bound[target], rows.owner.to(session.image.device)
    with torch.inference_mode(False), torch.no_grad():
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            with session.autocast():
                output = chunk(rows[part], owners[part])
            session.tally.forwards += 1
            selected = select(map_tensors(exact, output), session.selector)
            yield bound(selected, owners[part])


def recapture(session: Session, inputs: Tensor) -> Session:
    """The same layers, reshapes and bound targets on other images (same batch size)."""
    if inputs.shape != session.image.shape:
        raise InputError(
            f"at(...) got {list(inputs.shape)} for a batch of {list(session.image.shape)}: the "
            "bound targets belong to these images, so batch and size must stay the same"
        )
    _afford(session, 1, "one more capture takes 1 forward")
    with session.autocast():
        again = Session(
            session.model,
            session.inputs.with_image(inputs.to(session.image.dtype)),
            session.layers,
            session.needs,
            session.registry,
            selector=session.selector,
            reshapes=session.reshapes,
            batch_size=session.batch_size,
            budget=session.budget,
            tally=session.tally,
        )
    again.adopt(session.bound)
    return again
