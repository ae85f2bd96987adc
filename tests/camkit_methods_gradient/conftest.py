"""Makes the helper package `gradient_proof` importable from any working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny networks: threads cost more than they give."""
    torch.set_num_threads(1)
