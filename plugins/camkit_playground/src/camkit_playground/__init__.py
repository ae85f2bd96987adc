"""Pictures with known truth, networks that know them, and the demonstration of camkit."""

from __future__ import annotations

__version__ = "0.1.0"
