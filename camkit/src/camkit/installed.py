"""What the installed packages offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from camkit_core import default_registry

if TYPE_CHECKING:
    from camkit_core import Entry, LoadedModel, PluginInfo


def methods() -> tuple[Entry, ...]:
    """Every explanation method that is installed, sorted by name. Imports none of them."""
    return default_registry().entries("method")


def plugins() -> tuple[PluginInfo, ...]:
    """Every plugin found: where it comes from, whether it works, what it offers."""
    return default_registry().plugins


def load_model(spec: str) -> LoadedModel:
    """Model with its preprocessing and class names.

    Args:
        spec: `"torchvision:resnet50"` with `@none` for random weights or `@file.safetensors`,
            or `"file.py:factory"` for your own network.

    Raises:
        ModelError: no installed plugin understands `spec`, or loading failed.
    """
    return default_registry().load_model(spec)
