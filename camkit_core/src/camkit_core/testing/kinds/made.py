"""Objects from what a caller names: an instance, a class, or a registered name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camkit_core.registry import default_registry, parse_spec


def example_of(kind: str, request: Any) -> Callable[[], tuple[Any, ...]] | None:
    """How a class that the kit's own data do not suit makes an object and outputs for it."""
    if isinstance(request, str) and ":" not in request:
        request = default_registry().resolve(kind, request)
    return getattr(request, "example", None) if isinstance(request, type) else None


def made(kind: str, request: Any) -> tuple[Any, str]:
    """The object and its name for reports.

    Raises:
        UnknownNameError: nothing of that kind has the name.
    """
    if isinstance(request, str):
        name, options = parse_spec(request)
        return default_registry().resolve(kind, name)(**options), request
    if isinstance(request, type):
        request = request()
    return request, getattr(request, "name", None) or type(request).__name__
