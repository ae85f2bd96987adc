"""Finds the class scores in whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from camkit_core.errors import OptionError, TargetError
from camkit_core.tree import describe, floating

Selector = Callable[[Any], Any] | str | int
"""How to pick the explained part of an output: a function, a key or attribute, or an index."""

_USUAL = ("logits", "out")


def select(output: Any, selector: Selector | None) -> Any:
    """The part of `output` that `selector` names; all of it for None.

    Raises:
        OptionError: there is no such part.
    """
    if selector is None:
        return output
    if callable(selector):
        return selector(output)
    try:
        if isinstance(selector, str) and not isinstance(output, Mapping):
            return getattr(output, selector)
        return output[selector]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise OptionError(
            f"output={selector!r}: the model returned {describe(output)}, which has no such part"
        ) from error


def class_scores(output: Any) -> Tensor:
    """Class scores `[N, K]` of a model output.

    A tensor is taken as it is; containers are searched for the usual names (`logits`, `out`),
    then for their only floating tensor.

    Raises:
        TargetError: there is no single such tensor, or it is not `[N, K]` with K >= 1.
    """
    scores = _find(output)
    if scores is None:
        raise TargetError(
            f"the model returned {describe(output)}: which part holds the class scores is unclear; "
            "say output='name', output=index or output=function"
        )
    if scores.ndim != 2:
        raise TargetError(
            f"class scores must be [N, K], but the model returned {list(scores.shape)}; name a "
            "target that turns this into one number per image, e.g. "
            "target=lambda out: out[3].mean() for channel 3 of each image"
        )
    return scores


def _find(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    for name in _USUAL:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    found = floating(output)
    return found[0] if len(found) == 1 else None
