"""Runs the model again: on perturbed inputs, or from a layer on with changed activations."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from camkit_core.errors import CaptureError, InputError
from camkit_core.owners import Owners
from camkit_core.planner import Job, score_rows
from camkit_core.precise import plain, way_for
from camkit_core.protocols import BoundTarget, Rows
from camkit_core.remember import recall
from camkit_core.rerun import Way, afford, afford_rows, key, run_again
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.swift import WORTH_IT, Unless, swifter
from camkit_core.tail import Replay, Whole
from camkit_core.verdict import tail_of


def input_scores(
    session: Session, target: int, rows: Rows, bound: BoundTarget | None = None
) -> Tensor:
    """Scores `[M]` of perturbed images, in chunks; the target stays as bound, or is `bound`.

    Raises:
        BudgetError: more forwards than the caller allowed.
    """
    judge = bound or session.bound[target]

    def score(way: Way, part: Tensor, owners: Owners) -> Tensor:
        return judge(run_again(session, way, part, owners), owners.index)

    if not len(rows):
        return session.score(target)[:0]
    session.asked += len(rows)
    afford_rows(session, len(rows))
    way = way_for(session, rows, score)

    def run(part: Tensor, owners: Owners) -> Tensor:
        scores = score(way, part, owners)
        session.tally.whole(len(part) / owners.images)
        return scores

    return score_rows(session, Job("images", rows, run, session.image))


def tail_scores(session: Session, target: int, layer: str, rows: Rows) -> Tensor:
    """Scores `[M]` with the layer's activations replaced by rows `[M, C, *S]`.

    Raises:
        BudgetError: more forwards than the caller allowed.
        CaptureError: the layer did not run, or its output is used in a way that no exchange
            reaches.
    """
    if session.done.stored:
        raise CaptureError(
            f"the output of layer {layer!r} is stored somewhere and used again from there, so "
            "exchanging it would miss that use; choose the layer before or behind it"
        )
    if not len(rows):
        return session.score(target)[:0]
    if session.precision == "fast":
        session.note("precision='fast' is for perturbed images; changed activations ran exactly")
    session.asked += len(rows)
    way, share = tail_of(session, session.layer(layer))
    afford_rows(session, len(rows), share)
    way = _laid(session, layer, rows, way, share)
    whole = isinstance(way, Whole)

    def run(part: Tensor, owners: Owners) -> Tensor:
        scores = session.bound[target](run_again(session, way, part, owners), owners.index)
        (session.tally.whole if whole else session.tally.tail)(share * len(part) / owners.images)
        return scores

    kind, like = f"{layer} as {type(way).__name__}", session.activations(layer)
    return score_rows(session, Job(kind, rows, run, like, share, layer))


def _laid(session: Session, layer: str, rows: Rows, way: Way, share: float) -> Way:
    """The same way with the rows' channels last in memory, where a CPU is faster then."""
    here = session.activations(layer)
    fits = here.ndim == 4 and here.device.type == "cpu" and len(rows) >= WORTH_IT
    if not isinstance(way, Replay) or not fits:
        return way
    place = ("laid", layer)
    if place not in session.memo:
        other = way.channels_last()
        count = lambda part: session.tally.tail(share * part)  # noqa: E731
        known = key(session, "channels last", session.layer(layer))
        won = recall(session.model, known)  # tried once, as the tail itself
        if won is None:
            won = swifter(session, known, rows, way, other, count)
        session.memo[place] = Unless(session.weak, known, other, way) if won else way
    found: Way = session.memo[place]
    return found


def differentiable_scores(
    session: Session, target: int, rows: Rows, bound: BoundTarget | None = None
) -> Tensor:
    """Scores `[M]` of perturbed images with the graph from them back to the rows.

    All rows run at once, on a copy of the model whose parameters are constants.

    Raises:
        BudgetError: more forwards than the caller allowed.
    """
    images = len(session.inputs.image)
    session.asked += len(rows)
    afford_rows(session, len(rows))
    place = "constants"
    if place not in session.memo:
        session.memo[place] = partial(plain, session.weak, _constant(session.model))
    owners = Owners.of(rows.owner.to(session.image.device), images)
    with torch.inference_mode(False), torch.enable_grad():
        part = rows[slice(0, len(rows))]
        output = run_again(session, session.memo[place], part, owners, grad=True)
        session.tally.whole(len(rows) / images)
        return (bound or session.bound[target])(output, owners.index)


def _constant(model: nn.Module) -> nn.Module:
    """A twin of every module, with the parameters as constants that share their memory."""
    shadow = Shadow(model, list(model.modules()))
    for module in model.modules():
        _freeze(shadow.of(module))
    return shadow.root


def _freeze(twin: nn.Module) -> None:
    state = twin.__dict__
    state["_parameters"] = {
        name: None if value is None else value.detach()
        for name, value in state["_parameters"].items()
    }
    if isinstance(twin, nn.RNNBase):
        state["_flat_weights"] = [getattr(twin, name) for name in twin._flat_weights_names]


def recapture(session: Session, inputs: Tensor) -> Session:
    """The same layers, reshapes and bound targets on other images (same batch size)."""
    if inputs.shape != session.image.shape:
        raise InputError(
            f"at(...) got {list(inputs.shape)} for a batch of {list(session.image.shape)}: the "
            "bound targets belong to these images, so batch and size must stay the same"
        )
    afford(session, 1, "one more capture takes 1 forward")
    with session.autocast():
        again = Session(
            session.model,
            session.inputs.with_image(inputs.to(session.image.dtype)),
            session.layers,
            session.needs,
            session.registry,
            selector=session.selector,
            reshape=session.reshape,
            reshapes=session.reshapes,
            attended=session.attended,
            batch_size=session.batch_size,
            budget=session.budget,
            precision=session.precision,
            tally=session.tally,
        )
    again.adopt(session.bound)
    return again
