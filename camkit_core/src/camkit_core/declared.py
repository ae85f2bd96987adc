"""What a method says it costs, `runs = "1F + K T"`, against what it asked for.

A sum of terms: forward passes F, backward passes B and runs T of the part of the model behind the
layer, all of one image; each times a number, the channels K, the positions S, their square root,
or the channels of all layers, `sum(K)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from camkit_core.protocols import Method
    from camkit_core.session import Session

_TERM = re.compile(
    r"(?P<times>\d+)?\s*(?P<of>K|S|sqrt\(K\)|sum\(K\))?\s*(?P<unit>F|B|T|\(F \+ B\)|\(B \+ F\))"
)
_SLACK = 1
"""Square roots are rounded up, and a baseline row is nobody's concern."""


def allowed_rows(runs: str, channels: Sequence[int], positions: int) -> float:
    """Rows per image that `runs` allows besides the clean pass; infinite if it is free text.

    Args:
        runs: the declaration.
        channels: of each captured layer; the first is the method's own.
        positions: of that layer.
    """
    terms = [_TERM.fullmatch(part.strip()) for part in re.split(r"\s\+\s(?![^(]*\))", runs)]
    if not terms or None in terms:
        return math.inf
    own = channels[0] if channels else 0
    size = {
        **{None: 1.0, "K": float(own), "S": float(positions), "sum(K)": float(sum(channels))},
        "sqrt(K)": math.ceil(math.sqrt(own)),
    }
    made = [
        int(term["times"] or 1) * size[term["of"]]
        for term in terms
        if term is not None and term["unit"] != "B"
    ]
    return sum(made) - 1 + _SLACK


def overrun(method: Method, session: Session, layer: str, rows: int) -> str:
    """What to say if a method asked for more rows than it declares, else "".

    A declaration is about the method as it is by default; with other options nothing is known.

    Args:
        method: what ran.
        session: where.
        layer: of the capture; "" if it saw all of them, or none.
        rows: rows of all images that it asked for.
    """
    asked, runs = rows / max(1, len(session.inputs.image)), getattr(method, "runs", "")
    if not rows or not _by_default(method):
        return ""
    names = [layer] if layer else [one.name for one in session.layers]
    shapes = [session.activations(name).shape for name in names]
    positions = shapes[0][2:].numel() if shapes else 0
    allowed = allowed_rows(runs, [shape[1] for shape in shapes], positions)
    if asked <= allowed:
        return ""
    return (
        f"{method.name} ran the model {asked:,.0f} times for each image, but declares {runs!r}, "
        f"which is {allowed - _SLACK:,.0f} here: what listings say of its cost is wrong"
    )


def _by_default(method: Method) -> bool:
    fields = getattr(type(method), "model_fields", None)
    return fields is not None and all(
        getattr(method, name) == field.default for name, field in fields.items()
    )
