"""How good an explanation is: localisation metrics, and the controls they are read against."""

from __future__ import annotations

__version__ = "0.1.0"
