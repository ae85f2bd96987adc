"""Tensors inside the containers models return: tuples, lists, mappings, dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of a container, depth first."""
    if isinstance(tree, Tensor):
        return [tree]
    return [tensor for child in children(tree) or () for tensor in tensors(child)]


def floating(tree: Any) -> list[Tensor]:
    """The tensors that can carry a gradient."""
    return [tensor for tensor in tensors(tree) if torch.is_floating_point(tensor)]


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same container with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(change, child) for child in tree))
    if isinstance(tree, tuple | list):
        return type(tree)([map_tensors(change, child) for child in tree])
    if isinstance(tree, Mapping):
        mapping: Any = copy.copy(tree)
        for key, child in tree.items():
            mapping[key] = map_tensors(change, child)
        return mapping
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        clone = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(clone, field.name, map_tensors(change, getattr(tree, field.name)))
        return clone
    return tree


def take(tree: Any, rows: Tensor, length: int) -> Any:
    """Rows `rows` of every tensor whose first axis has `length` entries, or of a list per image."""
    if _per_image(tree, length):
        return [tree[int(row)] for row in rows]
    return map_tensors(
        lambda tensor: tensor[rows] if tensor.ndim and len(tensor) == length else tensor, tree
    )


def take_one(tree: Any, row: int, length: int) -> Any:
    """One image's part, without the batch axis."""
    if _per_image(tree, length):
        return tree[row]
    return map_tensors(
        lambda tensor: tensor[row] if tensor.ndim and len(tensor) == length else tensor, tree
    )


def _per_image(tree: Any, length: int) -> bool:
    """Whether a list holds one entry per image, and not several batches of that size."""
    if not isinstance(tree, list) or len(tree) != length:
        return False
    return not all(isinstance(one, Tensor) and one.ndim and len(one) == length for one in tree)


def exact(tensor: Tensor) -> Tensor:
    """Float32 or better."""
    if not torch.is_floating_point(tensor):
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def describe(tree: Any) -> str:
    """Short text for error messages: types and shapes."""
    if isinstance(tree, Tensor):
        return f"tensor {list(tree.shape)}"
    if isinstance(tree, Mapping):
        inside = ", ".join(f"{key}: {describe(child)}" for key, child in list(tree.items())[:6])
        return f"{type(tree).__name__}({inside})"
    if isinstance(tree, (tuple, list)):
        inside = ", ".join(describe(child) for child in tree[:6])
        return f"{type(tree).__name__}({inside})"
    return type(tree).__name__


def children(tree: Any) -> list[Any] | None:
    """What a container holds; None for anything else."""
    if isinstance(tree, Mapping):
        return list(tree.values())
    if isinstance(tree, (tuple, list)):
        return list(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    return None
