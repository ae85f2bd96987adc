"""What a child process runs; it must be importable there."""

from __future__ import annotations

from typing import Any

import torch

from camkit_core import Explanation


def work(job: tuple[Any, ...]) -> Explanation:
    """One explanation by a pickled explainer."""
    torch.set_num_threads(1)
    explainer, method, x, target = job
    found: Explanation = explainer.explain(x, method, target)
    return found
