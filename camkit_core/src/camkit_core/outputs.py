"""Finds the class scores in whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from camkit_core.errors import OptionError, TargetError
from camkit_core.tree import describe, floating

Selector = Callable[[Any], Any] | str | int
"""How to pick the explained part of an output: a function, a key or attribute, or an index."""

_USUAL = ("logits", "out", "logits_per_image")

EMBEDDINGS = ("image_embeds", "embeddings", "pooler_output")
"""What models call an embedding of the whole image; such a vector is not one of class scores."""


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


def part(output: Any, name: str) -> Any:
    """The entry or attribute of a container, None if there is none."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def class_scores(output: Any) -> Tensor:
    """Class scores `[N, K]` of a model output.

    A tensor is taken as it is; containers are searched for the usual names (`logits`, `out`,
    `logits_per_image` of image-text models), then for their only floating tensor.

    Raises:
        TargetError: there is no single such tensor, or it is not `[N, K]` with K >= 1.
    """
    scores = main_tensor(output)
    if scores.ndim != 2:
        raise TargetError(
            f"class scores must be [N, K], but the model returned {list(scores.shape)}; name a "
            "target that turns this into one number per image, e.g. "
            "target=lambda out: out[3].mean() for channel 3 of each image"
        )
    return scores


def main_tensor(output: Any) -> Tensor:
    """The tensor of a model output that holds its scores, whatever its shape.

    Found as in `class_scores`.

    Raises:
        TargetError: there is no single such tensor.
    """
    scores = _find(output)
    if scores is None and (name := _embedding(output)):
        raise TargetError(
            f"the model returned {describe(output)}: {name} is an embedding, not class scores; "
            "name a target such as 'like:photo.jpg', 'text:a dog' or 'pred' (similarity to "
            f"itself), or output={name!r} to take its entries for classes"
        )
    if scores is None:
        raise TargetError(
            f"the model returned {describe(output)}: which part holds the class scores is unclear; "
            "say output='name', output=index or output=function"
        )
    return scores


def _find(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    for name in _USUAL:
        found = part(output, name)
        if isinstance(found, Tensor):
            return found
    if _embedding(output):
        return None
    found = floating(output)
    return found[0] if len(found) == 1 else None


def _embedding(output: Any) -> str:
    """Name of the embedding in a container, or nothing."""
    return next((name for name in EMBEDDINGS if isinstance(part(output, name), Tensor)), "")
