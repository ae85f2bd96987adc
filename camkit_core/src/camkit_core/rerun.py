"""What every further run of the model shares: modes, the selected output, the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from camkit_core.errors import BudgetError, CamkitError
from camkit_core.layers import Layer
from camkit_core.outputs import select
from camkit_core.owners import Owners
from camkit_core.session import Session
from camkit_core.tree import exact, floating, map_tensors, tensors

_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}
_COARSE = 2e-2  # half precision
Result = TypeVar("Result")


class Way(Protocol):
    """A way to get outputs for rows."""

    def __call__(self, part: Tensor, owners: Owners, /) -> Any:
        """The model's output for rows `[M, ...]`."""
        ...


def undisturbed(way: Way, run: Callable[[], Result]) -> Result:
    """What `run` makes of the way, if need be once more: then everything is there from the start.

    Where every operator counts, one that ran before something was found missing counts twice.
    """
    before = _completed(way)
    try:
        found = run()
    except CamkitError:
        if _completed(way) == before:
            raise
    else:
        if _completed(way) == before:
            return found
    return run()


def _completed(way: Way) -> int:
    return int(getattr(way, "completed", 0))


def run_again(
    session: Session, way: Way, part: Tensor, owners: Owners, *, grad: bool = False
) -> Any:
    """The explained part of the output for rows, in float32 or better."""
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        with session.autocast():
            output = way(part, owners)
        return select(map_tensors(exact, output), session.selector)


def afford(session: Session, planned: float, what: str) -> None:
    """Refuse work before it starts.

    Raises:
        BudgetError: with what was done, what is planned, and what would be cheaper.
    """
    used, budget = session.tally.used, session.budget
    if budget is None or used + planned <= budget:
        return
    raise BudgetError(
        f"{what}, with {_number(used)} done already, but budget={budget}; raise it, or choose a "
        f"cheaper method{_cheaper(session)}"
    )


def afford_rows(session: Session, count: int, share: float = 1.0) -> None:
    """Refuse rows that would take more forwards of the batch than are left.

    Args:
        session: has the budget and what was used of it.
        count: rows.
        share: work of one row, in forwards of one image.

    Raises:
        BudgetError: before anything ran.
    """
    work = math.ceil(share * count / max(len(session.inputs.image), 1))
    afford(session, work, f"{count:,} rows take {work:,} forward{'' if work == 1 else 's'}")


def _number(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 or amount == int(amount) else f"{amount:.1f}"


def _cheaper(session: Session) -> str:
    """Names of methods that run the model once and tell classes apart."""
    found = [
        entry.name
        for entry in session.registry.entries("method")
        if entry.class_discriminative and entry.runs in ("1F", "1F + 1B")
    ]
    return f", e.g. {', '.join(found[:3])}" if found else " (see `camkit methods`)"


def rounding(session: Session, layer: Layer | None = None) -> float:
    """Relative difference that the precision of the model's own arithmetic explains."""
    device = session.image.device.type
    with session.autocast():
        if torch.is_autocast_enabled(device):
            return _COARSE
    seen = floating(session.done.output)
    seen += floating(session.done.kept[layer.name]) if layer else []
    return max((_ROUNDING.get(tensor.dtype, _COARSE) for tensor in seen), default=1e-5)


def key(session: Session, what: str, layer: Layer | None = None) -> Hashable:
    """Everything that facts about further runs of this model may depend on."""
    shapes = tuple(
        (tuple(tensor.shape), str(tensor.dtype), str(tensor.device))
        for tensor in tensors((session.inputs.args, session.inputs.kwargs))
    )
    place = (layer.path, layer.call or 0, repr(session.reshapes[layer.name])) if layer else None
    with session.autocast():
        device = session.image.device.type
        autocast = (torch.is_autocast_enabled(device), str(torch.get_autocast_dtype(device)))
    return what, place, shapes, autocast, tuple(map(id, session.model.modules()))
