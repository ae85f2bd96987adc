"""Counts passes through a model exactly, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


@dataclass
class Passes:
    """What was run.

    Attributes:
        forwards: calls of the model's `forward`, on the model itself or on a copy of its object.
        rows: images that went through them.
        backwards: calls of the autograd engine, higher derivatives included, and those that end at
            the model's output (the derivative of a score alone).
    """

    forwards: int = 0
    rows: int = 0
    backwards: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Passes]:
    """Count until the end of the block.

    `forward` is exchanged on the model's class, because extractors call the model, wrappers of it,
    or shallow copies that share the class; nested calls (a submodule of the same class) count once.
    `Tensor.backward` goes through `torch.autograd.backward`, so two functions see every backward.
    """
    passes, kind = Passes(), type(model)
    with (
        patch.object(kind, "forward", _forward(kind.forward, passes)),
        patch.object(torch.autograd, "grad", _backward(torch.autograd.grad, passes)),
        patch.object(torch.autograd, "backward", _backward(torch.autograd.backward, passes)),
    ):
        yield passes


def _forward(original: Callable[..., Any], passes: Passes) -> Callable[..., Any]:
    inside = 0

    @wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if not inside:
            passes.forwards += 1
            passes.rows += _rows(args[1:], kwargs)
        inside += 1
        try:
            return original(*args, **kwargs)
        finally:
            inside -= 1

    return forward


def _backward(original: Callable[..., Any], passes: Passes) -> Callable[..., Any]:
    @wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        passes.backwards += 1
        return original(*args, **kwargs)

    return backward


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
    return 0 if first is None else len(first)
