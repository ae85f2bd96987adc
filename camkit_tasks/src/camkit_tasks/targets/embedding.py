"""Finds the embedding of the whole image in whatever a model returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from camkit_core import TargetError, class_scores

NAMES = ("image_embeds", "embeddings", "pooler_output")
"""What models call it, the projected one (CLIP) first."""

_SCORES = ("logits", "out", "logits_per_image")


def embedding(output: Any) -> Tensor:
    """Embeddings `[N, D]`, float32 or better.

    A tensor is taken as it is, so that class scores are an embedding as well; containers are
    searched for the usual names, then for class scores. Trailing axes of one element go.

    Raises:
        TargetError: there is none.
    """
    found = _named(output)
    if found is None and not isinstance(output, Tensor):
        found = _scores(output)
    found = output if found is None else found
    if not isinstance(found, Tensor):
        raise TargetError(_nothing(output))
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim != 2:
        raise TargetError(
            f"an embedding is [N, D], but the model returned {list(found.shape)}; say which part "
            "is meant, e.g. output=lambda out: out.mean((2, 3))"
        )
    return found if found.dtype == torch.float64 else found.float()


def is_embedding(output: Any) -> bool:
    """Whether a container has an embedding and no class scores."""
    if isinstance(output, Tensor) or _named(output) is None:
        return False
    return not any(isinstance(_part(output, name), Tensor) for name in _SCORES)


def _named(output: Any) -> Tensor | None:
    found = (_part(output, name) for name in NAMES)
    return next((one for one in found if isinstance(one, Tensor)), None)


def _scores(output: Any) -> Tensor | None:
    try:
        return class_scores(output)
    except TargetError:
        return None


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _nothing(output: Any) -> str:
    named = list(output) if isinstance(output, Mapping) else type(output).__name__
    hint = ""
    if isinstance(_part(output, "last_hidden_state"), Tensor):
        hint = ", e.g. output=lambda out: out.last_hidden_state[:, 0] for the class token"
    return (
        f"the model returned {named}: which part is the embedding of the image is unclear; say "
        f"output='name', output=index or output=function{hint}"
    )
