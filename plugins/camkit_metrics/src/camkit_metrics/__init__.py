"""How good an explanation is: faithfulness, robustness, localisation, randomisation, axioms."""

from __future__ import annotations

__version__ = "0.1.0"
