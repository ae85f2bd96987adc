"""What was found out about a model and stays true for it: checks, chunk sizes."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_MOST = 64
_LOCK = threading.Lock()
_FACTS: WeakKeyDictionary[nn.Module, dict[Hashable, Any]] = WeakKeyDictionary()


def recall(model: nn.Module, key: Hashable) -> Any:
    """What is known under a key, or None."""
    with _LOCK:
        return _FACTS.get(model, {}).get(key)


def remember(model: nn.Module, key: Hashable, fact: Any) -> None:
    """Keep a fact; the oldest ones go when there are many."""
    with _LOCK:
        facts = _FACTS.setdefault(model, {})
        facts[key] = fact
        while len(facts) > _MOST:
            facts.pop(next(iter(facts)))
