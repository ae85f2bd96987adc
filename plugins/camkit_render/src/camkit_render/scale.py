"""What a color stands for.

`own`
    The display map divided by its own largest magnitude: every map uses the full range of colors,
    so colors of two maps must not be compared. With default post-processing this is the display
    map itself.
`shared`
    The raw map in raw units, divided by ONE magnitude for all maps of the call that come from the
    same method with the same parameters at the same layers: the same color is the same raw value.
    Raw maps are put at the display map's resolution by linear interpolation, averaged over
    layers, and set to 0 where they are negative unless the display maps have negative values too;
    no other post-processing step is applied. Methods differ in unit (gradients, probabilities,
    variances), which is why two methods never share a scale.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import Explanation, OptionError
from camkit_render.record import plain

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, eq=False)
class Field:
    """One image's map, ready for colors."""

    values: Tensor  # [*S], in [0, 1], or [-1, 1] if signed
    signed: bool
    peak: float  # the magnitude that is drawn as 1
    dropped: int  # NaN or infinite values, drawn as 0

    @property
    def empty(self) -> bool:
        """Nothing to see."""
        return not bool(self.values.any())


def fields_of(explanations: Sequence[Explanation], scale: str) -> list[list[Field]]:
    """Fields of every image of every explanation.

    Args:
        explanations: what is drawn together.
        scale: `"own"` or `"shared"`.

    Raises:
        OptionError: a shared scale where raw maps cannot be laid over display maps.
    """
    if scale == "own":
        return [_own(explanation) for explanation in explanations]
    families: dict[str, list[Explanation]] = {}
    for explanation in explanations:
        families.setdefault(family(explanation), []).append(explanation)
    drawn = {name: iter(_shared(members)) for name, members in families.items()}
    return [next(drawn[family(explanation)]) for explanation in explanations]


def family(explanation: Explanation) -> str:
    """Explanations of one family speak the same raw unit."""
    p = explanation.provenance
    return json.dumps([p.package, p.method, plain(p.parameters), list(p.layers)], sort_keys=True)


def _own(explanation: Explanation) -> list[Field]:
    signed = _signed(explanation)
    maps = explanation.maps.detach().to("cpu", torch.float32)
    return [_field(row, signed, _peak(row)) for row in maps]


def _shared(members: Sequence[Explanation]) -> list[list[Field]]:
    signed = any(_signed(member) for member in members)
    raws = [_raw(member) for member in members]
    if not signed:
        raws = [raw.relu() for raw in raws]
    peak = max(_peak(raw) for raw in raws)
    return [[_field(row, signed, peak) for row in raw] for raw in raws]


def _signed(explanation: Explanation) -> bool:
    maps = explanation.maps
    return bool((maps < 0).any())


def _peak(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _field(values: Tensor, signed: bool, peak: float) -> Field:
    finite = values.isfinite()
    kept = torch.where(finite, values, 0)
    return Field(
        # Dividing by the peak may round to a hair above 1, and 1 / peak may overflow.
        values=(kept / peak).clamp(-1, 1) if peak > 0 else torch.zeros_like(kept),
        signed=signed,
        peak=peak,
        dropped=int((~finite).sum()),
    )


def _raw(explanation: Explanation) -> Tensor:
    space = tuple(explanation.maps.shape[1:])
    if not explanation.raw:
        raise OptionError(
            "scale='shared' compares raw maps, and this explanation has none; use scale='own'"
        )
    layers = [
        _at(raw.detach().to("cpu", torch.float32), space, layer)
        for layer, raw in explanation.raw.items()
    ]
    return torch.stack(layers).mean(0)


def _at(raw: Tensor, space: tuple[int, ...], layer: str) -> Tensor:
    if tuple(raw.shape[1:]) == space:
        return raw
    if raw.ndim - 1 != len(space) or len(space) not in _MODES:
        raise OptionError(
            f"scale='shared' cannot lay the raw map {list(raw.shape)} of {layer} over display maps "
            f"of {list(space)}; use scale='own'"
        )
    resized: Tensor = functional.interpolate(
        raw[:, None], size=space, mode=_MODES[len(space)], align_corners=False
    )
    return resized[:, 0]
