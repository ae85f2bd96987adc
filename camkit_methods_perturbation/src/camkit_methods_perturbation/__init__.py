"""Explanation methods that run the model again: masked inputs, changed activations."""

from __future__ import annotations

__version__ = "0.1.0"
