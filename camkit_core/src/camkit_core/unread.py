"""Outputs before a layer that nothing behind it reads: they need not be kept.

In `x = self.stem(x); x = self.layer(x)` a tail passes on what `stem` returned, but never looks at
it. A trial finds out which outputs are only passed on, and that it makes no difference if they are
not there; later passes leave a placeholder in their place, which says so if it is read after all.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from camkit_core.tree import tensors


class UnreadError(Exception):
    """An output that was not kept is needed."""


class Flag:
    """Whether any of the placeholders of a pass was read."""

    raised = False


class Placeholder(Tensor):
    """Stands for an output that was not kept; whatever is asked of it raises the flag.

    It has the shape, type and device of the output, which scripted code may see past Python.
    """

    flag: Flag

    @staticmethod
    def __new__(cls, like: Tensor, flag: Flag) -> Placeholder:
        """Without memory."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            like.shape,
            dtype=like.dtype,
            device=like.device,
            dispatch_sizes_strides_policy="sizes",
            dispatch_device=True,
            dispatch_layout=True,
        )
        assert isinstance(made, Placeholder)
        made.__dict__["flag"] = flag
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuse, and remember: the model may catch the exception."""
        return _refuse(args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stub has it as an instance's
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The same for code that no Python function leads to."""
        return _refuse(args, kwargs)


def _refuse(args: tuple[Any, ...], kwargs: Any) -> Any:
    for tensor in tensors((args, kwargs or {})):
        if isinstance(tensor, Placeholder):
            tensor.__dict__["flag"].raised = True
    raise UnreadError(
        "this stands for the output of a module before the layer that camkit explained, which was "
        "not kept because nothing behind the layer was seen to read it; run the model by itself to "
        "have it"
    )


def place_of(layer: str, inputs: Any) -> Hashable:
    """What it is remembered under: other shapes may take other ways through the model."""
    return "unread", layer, tuple(tensor.shape for tensor in tensors(inputs))


class Reads(TorchFunctionMode):
    """Notes which of the tensors that were handed out are read: `found` has their keys."""

    def __init__(self) -> None:
        """Nothing was handed out."""
        super().__init__()
        self.found: set[Any] = set()
        self._handed: dict[int, tuple[Any, Tensor]] = {}

    def hand(self, key: Any, tensor: Tensor) -> None:
        """Watch a tensor."""
        self._handed[id(tensor)] = (key, tensor)

    @property
    def unread(self) -> frozenset[Any]:
        """Keys of tensors that nothing read."""
        return frozenset(key for key, _ in self._handed.values()) - self.found

    def read(self, tree: Any) -> None:
        """Note the tensors in `tree` as read."""
        seen = (self._handed.get(id(tensor)) for tensor in tensors(tree))
        self.found |= {one[0] for one in seen if one}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note, and call."""
        self.read((args, kwargs))
        return func(*args, **(kwargs or {}))
