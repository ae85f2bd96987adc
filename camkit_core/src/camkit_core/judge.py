"""Looks at raw maps before they are drawn: refuses non-finite ones, notes empty ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor, nn

from camkit_core.errors import NonFiniteError
from camkit_core.explanation import Issue
from camkit_core.inputs import ModelInputs
from camkit_core.post import rounding
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.tree import floating

_EMPTY = {
    "all_zero": "the map is zero everywhere: the method found nothing at this layer",
    "all_negative": "no value is positive, so nothing is left to draw after ReLU",
    "constant": "the map has the same value everywhere: it singles out no place",
}

_ONE_POSITION = (
    "the layer has a single position, so its map cannot say where; choose an earlier layer"
)

Ranges = list[list[tuple[float, float]]]
"""Per layer, per row: smallest and largest raw value."""


def ranges(maps: Sequence[Tensor]) -> Ranges:
    """Extent of every raw map, with one transfer from the device per layer."""
    found: Ranges = []
    for one in maps:
        axes = tuple(range(1, one.ndim))
        pairs = torch.stack([one.detach().amin(axes), one.detach().amax(axes)], 1).tolist()
        found.append([(low, high) for low, high in pairs])
    return found


def issues_of(layers: Sequence[str], maps: Sequence[Tensor], extents: Ranges) -> list[Issue]:
    """Issues of one explanation: `extents` has one list per layer with one pair per image."""
    issues: list[Issue] = []
    for layer, raw, pairs in zip(layers, maps, extents, strict=True):
        if math.prod(raw.shape[1:]) == 1:
            issues.append(Issue("no_localisation", _ONE_POSITION, layer=layer))
            continue
        noise = rounding(raw.dtype)
        kinds = [_kind(low, high, noise) for low, high in pairs]
        for code, message in _EMPTY.items():
            images = tuple(image for image, kind in enumerate(kinds) if kind == code)
            if images:
                issues.append(Issue(code, message, images, layer))
    return issues


def without(issues: Sequence[Issue], images: Sequence[int]) -> Iterator[Issue]:
    """The issues of other images: an empty map is no news where nothing was to be explained."""
    for issue in issues:
        left = tuple(image for image in issue.images if image not in images)
        if left or not issue.images:
            yield replace(issue, images=left)


def _kind(low: float, high: float, noise: float) -> str:
    if high - low <= noise * max(abs(low), abs(high)):
        return "all_zero" if low == high == 0 else "constant"
    return "all_negative" if high <= 0 else ""


def is_finite(extents: Ranges) -> bool:
    """Whether every raw value is finite (the extremes carry NaN and infinity)."""
    return all(math.isfinite(v) for pairs in extents for pair in pairs for v in pair)


def refuse(session: Session, target: int, method: str) -> NoReturn:
    """Say where NaN or infinity came from.

    Raises:
        NonFiniteError: always.
    """
    with session.autocast():
        found = first_bad_layer(session.model, session.inputs)
    if found:
        raise NonFiniteError(
            f"the model itself produces NaN or infinity, first in layer {found!r}; every map "
            "behind it would be meaningless: check the weights, the input scale and the precision"
        )
    score = session.score(target)
    if not bool(torch.isfinite(score).all()):
        label = session.bound[target].describe().label
        raise NonFiniteError(
            f"the score of {label!r} is {score.tolist()}; nothing can be explained"
        )
    raise NonFiniteError(
        f"method {method} gave NaN or infinity although the model is finite; its gradients "
        "overflow or it divides by zero: try float32 or float64, or another method"
    )


def first_bad_layer(model: nn.Module, inputs: ModelInputs) -> str:
    """Name of the first module whose output is not finite, or nothing."""
    named = {id(module): name for name, module in model.named_modules() if name}
    shadow = Shadow(model, [module for module in model.modules() if id(module) in named])
    found: list[str] = []

    for name, module in model.named_modules():

        def look(_m: nn.Module, _a: object, output: object, name: str = name) -> None:
            if any(not bool(torch.isfinite(t).all()) for t in floating(output)):
                found.append(name)

        if name and not isinstance(module, torch.jit.ScriptModule):
            shadow.of(module).register_forward_hook(look)
    with torch.inference_mode(False), torch.no_grad():
        inputs.fresh().call(shadow.root)
    return found[0] if found else ""
