"""Counts what a piece of work costs: floating point operations and memory alive at once."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from camkit_core.tree import tensors


class Flops(TorchDispatchMode):
    """Multiplications and additions of convolutions, matrix products and attention."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and add its cost."""
        output = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            # The formulas know the usual arguments; for unusual ones the count is too low.
            with contextlib.suppress(Exception):
                self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


class Memory(TorchDispatchMode):
    """Bytes of the tensors made inside that are alive at the same time, at most: `peak`."""

    def __init__(self) -> None:
        """Nothing is alive yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._alive: int = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and note the memory that it made."""
        old = {_storage(one)._cdata for one in tensors((args, kwargs or {}))}
        output = func(*args, **(kwargs or {}))
        for tensor in tensors(output):
            storage = _storage(tensor)
            if storage._cdata not in self._known and storage._cdata not in old:
                self._note(storage)
        self.peak = max(self.peak, self._alive)
        return output

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._alive += size
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


def _storage(tensor: Any) -> Any:
    return tensor.untyped_storage()
