"""Readable errors for wrong options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from camkit_core.errors import OptionError
from camkit_core.registry import near, parse_spec

if TYPE_CHECKING:
    from camkit_core.protocols import Method
    from camkit_core.registry import Registry


def method_of(request: Any, registry: Registry, options: Mapping[str, Any] | None = None) -> Method:
    """A method from a name, a spec string (`"gradcampp:variant=grad-cam"`) or an instance.

    Raises:
        OptionError: an unknown or invalid option, or options beside an instance.
        UnknownNameError: no plugin offers the name.
    """
    if not isinstance(request, str):
        return _instance(request, options)
    from pydantic import ValidationError

    name, written = parse_spec(request)
    both = sorted(set(written) & set(options or {}))
    if both:
        raise OptionError(f"option {both[0]!r} is given in {request!r} and as an argument")
    kind = registry.resolve("method", name)
    given = {**written, **(options or {})}
    fields = list(getattr(kind, "model_fields", given))
    unknown = [key for key in given if key not in fields]
    if unknown:
        raise OptionError(unknown_option(name, unknown[0], fields))
    try:
        method: Method = kind(**given)
    except (ValidationError, TypeError) as error:
        raise invalid(f"method {name}", error) from error
    return method


def _instance(request: Any, options: Mapping[str, Any] | None) -> Method:
    from camkit_core.protocols import Method

    if isinstance(request, type) or not isinstance(request, Method):
        raise OptionError(
            f"a method is a name, a spec string or an instance, got {request!r}"
            + ("; did you forget the parentheses?" if isinstance(request, type) else "")
        )
    if options:
        raise OptionError(
            f"options {sorted(options)} go with a method's name; an instance already has its own"
        )
    return request


def unknown_option(name: str, option: str, fields: list[str]) -> str:
    """What to say about an option the method does not have."""
    known = f"it has {', '.join(sorted(fields))}" if fields else "it has no options"
    return f"method {name} has no option {option!r}{near(option, fields)} ({known})"


def invalid(what: str, error: Exception) -> OptionError:
    """One line for a validation error."""
    details = getattr(error, "errors", None)
    if details is None:
        return OptionError(f"{what}: {error}")
    lines = [
        f"{'.'.join(map(str, item['loc'])) or 'value'}={item.get('input')!r}: {item['msg']}"
        for item in details()
    ]
    return OptionError(f"{what}: {'; '.join(lines)}")
