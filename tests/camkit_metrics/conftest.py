"""Makes the helper package `metric_proof` importable from any working directory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
