"""Process-wide settings that overlapping calls switch on together and put back together."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


class Switch:
    """A context that many threads may be inside at once: the last one to leave restores.

    Each for itself would restore what it found, which may be another thread's setting.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        """`make` builds the context that sets and restores."""
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Switched on inside."""
        with self._lock:
            if self._inside == 0:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._context.__exit__(None, None, None)


def _math_attention() -> AbstractContextManager[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def _without_vmap_notes() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield


eager = Switch(lambda: torch.compiler.set_stance("force_eager"))
"""Compiled functions run as plain Python, where hooks are heard."""

math_attention = Switch(_math_attention)
"""Attention by kernels that have a second derivative."""

quiet_vmap = Switch(_without_vmap_notes)
"""No warning about operators that are batched slowly."""
