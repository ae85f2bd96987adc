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


@contextmanager
def _math_attention() -> Iterator[None]:
    # Not torch.nn.attention.sdpa_kernel: it must be left by the thread that entered it.
    backends = torch.backends.cuda
    found = (
        (backends.enable_flash_sdp, backends.flash_sdp_enabled()),
        (backends.enable_mem_efficient_sdp, backends.mem_efficient_sdp_enabled()),
        (backends.enable_cudnn_sdp, backends.cudnn_sdp_enabled()),
        (backends.enable_math_sdp, backends.math_sdp_enabled()),
    )
    for enable, _ in found:
        enable(enable is backends.enable_math_sdp)
    try:
        yield
    finally:
        for enable, before in found:
            enable(before)


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
