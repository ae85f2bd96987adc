"""The demonstration of camkit; pictures with known truth will live here."""

from __future__ import annotations

__version__ = "0.1.0"
