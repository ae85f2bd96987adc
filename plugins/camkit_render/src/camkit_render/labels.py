"""The words on a picture: method, target, score, and what a reader must know."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from camkit_core import Explanation
from camkit_render.record import plain
from camkit_render.scale import Field


def target_label(explanation: Explanation, row: int) -> str:
    """What was explained for one image."""
    target = explanation.target
    return target.labels[row] if target.labels else target.label


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def score_label(explanation: Explanation, row: int) -> str:
    """The target's score of one image."""
    return f"score {number(float(explanation.score[row]))}"


def method_label(explanation: Explanation, among: Sequence[Explanation]) -> str:
    """The method, with the parameters and layers that tell it apart from its namesakes."""
    name = explanation.provenance.method
    same = [other for other in among if other.provenance.method == name]
    differing = [
        f"{key}={_short(value)}"
        for key, value in explanation.provenance.parameters.items()
        if any(plain(other.provenance.parameters.get(key)) != plain(value) for other in same)
    ]
    layers = explanation.provenance.layers
    if any(other.provenance.layers != layers for other in among):
        differing.insert(0, f"at {layers_label(explanation)}")
    return " ".join([name, *differing])


def layers_label(explanation: Explanation) -> str:
    """Names of the layers, `input` for methods in input space."""
    return ", ".join(explanation.provenance.layers) or "input"


def scale_label(field: Field, scale: str) -> str:
    """Which value is drawn with the last color."""
    if scale == "own":
        return ""
    return f"scale {'±' if field.signed else '0 to '}{number(field.peak)}"


def notices(explanation: Explanation, row: int, field: Field) -> list[str]:
    """What a reader of this map must know, each once."""
    found = [
        issue.message for issue in explanation.issues if not issue.images or row in issue.images
    ]
    if field.dropped:
        found.append(f"{field.dropped} values are NaN or infinite and are not painted")
    if field.empty and not found:
        found.append("the map is empty: no pixel has any relevance, so nothing is painted")
    return list(dict.fromkeys(found))


def _short(value: object) -> str:
    text = plain(value)
    if isinstance(text, float) and math.isfinite(text):
        return number(text)
    return text if isinstance(text, str) else json.dumps(text)
