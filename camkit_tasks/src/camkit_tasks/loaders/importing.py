"""Imports a user's file as Python would run it, and leaves `sys.path` as it was."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_LOCK = threading.RLock()
_SIBLINGS: dict[str, Path] = {}  # module name -> folder it was imported from for a user's file


def import_file(path: Path) -> ModuleType:
    """The module of a file, executed now; whatever it raises passes through."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"camkit_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        with siblings_importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def siblings_importable(folder: Path) -> Iterator[None]:
    """Files of `folder` can be imported by name inside the block.

    Modules of the same name that an earlier call imported from another folder are forgotten, so
    that two projects with a `layers.py` each do not get mixed up.
    """
    with _LOCK:
        for name in [name for name, origin in _SIBLINGS.items() if origin != folder]:
            sys.modules.pop(name, None)
            del _SIBLINGS[name]
        before = set(sys.modules)
        entry = str(folder)
        sys.path.insert(0, entry)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            if entry in sys.path:
                sys.path.remove(entry)
            for name in set(sys.modules) - before:
                if _lies_in(sys.modules[name], folder):
                    _SIBLINGS[name] = folder


def _lies_in(module: ModuleType, folder: Path) -> bool:
    if module.__name__.startswith("camkit_user_"):
        return False
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder)
