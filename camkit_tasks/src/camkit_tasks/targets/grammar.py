"""One grammar of targets, for Python strings, the command line and configuration files.

Every kind of target lives in a module of its own with `from_words`, which understands a request or
returns None. The first answer counts, in the order of `KINDS`; docs/targets.md has the table.
"""

from __future__ import annotations

import importlib
from typing import Any

from camkit_core import Target, TargetContext
from camkit_tasks.targets.names import class_index

KINDS = ("classification", "dense", "detection", "similarity")
"""Modules of this package, in the order in which they are asked."""


def target_from_words(request: Any, output: Any, context: TargetContext) -> Target | None:
    """The target a request names, or None.

    Words that mean nothing else but a class (a synonym, a WordNet id) are asked for once more as
    the digits of its index, which is how classes reach the modules.

    Args:
        request: words, or a class index.
        output: the explained part of the clean output.
        context: the model, its images and class names.

    Raises:
        TargetError: understood, but wrong: an unknown class after a colon, say.
    """
    if isinstance(request, bool) or not isinstance(request, str | int):
        return None
    words = str(request).strip()
    target = _from_kinds(words, output, context)
    if target is not None or ":" in words:
        return target
    index = class_index(words, context)
    return None if index is None else _from_kinds(str(index), output, context)


def _from_kinds(words: str, output: Any, context: TargetContext) -> Target | None:
    for kind in KINDS:
        module = importlib.import_module(f"camkit_tasks.targets.{kind}")
        target: Target | None = module.from_words(words, output, context)
        if target is not None:
            return target
    return None
