"""Files that are made from others: `python snapshots.py` writes them, a test compares them.

- `docs/api.txt`: every public name of `camkit_core`, `camkit_core.testing` and `camkit`, and every
  hook, with its signature. A change of the interface is a visible change of this file.
- `template.txt` in `camkit`: the files of `plugins/camkit_example`, for `camkit plugins new`.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "plugins" / "camkit_example"
TEMPLATE = ROOT / "camkit" / "src" / "camkit" / "cli" / "plugins" / "template.txt"
API = ROOT / "docs" / "api.txt"

PUBLIC = ("camkit_core", "camkit_core.testing", "camkit")
_CALLED = ("__call__", "__getitem__", "__len__")
_OF_THE_ENGINE = ("Capture",)  # nobody else makes one
_WIDTH = 90
_UNSEEN = re.compile(r"__pycache__|\.\w+_cache|dist")


def template() -> str:
    """The example's files, one after the other."""
    files = [path for path in sorted(EXAMPLE.rglob("*")) if path.is_file()]
    parts = [
        f"=== {path.relative_to(EXAMPLE).as_posix()}\n{path.read_text('utf-8')}"
        for path in files
        if not any(_UNSEEN.fullmatch(part) for part in path.relative_to(EXAMPLE).parts)
    ]
    return "".join(parts)


def api() -> str:
    """The interface as text."""
    from camkit_core import API as LEVEL

    lines = [f"plugin interface {LEVEL}", "", *_hooks()]
    for name in PUBLIC:
        module = importlib.import_module(name)
        lines += ["", f"== {name} =="]
        for public in sorted(module.__all__):
            if public != "__version__":
                lines += ["", *_described(public, getattr(module, public), name)]
    return "\n".join(lines) + "\n"


def _hooks() -> Iterator[str]:
    from camkit_core.hookspecs import HookSpecs

    yield "== hooks =="
    for name, function in inspect.getmembers(HookSpecs, inspect.isfunction):
        options = function.camkit_spec
        first = " (the first answer counts)" if options["firstresult"] else ""
        yield f"{name}{_signature(function)}{first}"
        for argument, warning in (options.get("warn_on_impl_args") or {}).items():
            yield f"    deprecated: {argument} ({warning})"


def _described(name: str, thing: Any, module: str) -> Iterator[str]:
    home = getattr(thing, "__module__", module)
    if home.partition(".")[0] == "camkit_core" != module.partition(".")[0]:
        yield f"{name}: the one of camkit_core"
    elif isinstance(thing, type):
        yield from _class(name, thing)
    elif inspect.isroutine(thing) or hasattr(thing, "__wrapped__"):
        yield f"{name}{_signature(thing)}"
    elif name.isupper():
        yield f"{name} = {_plain(thing)}"
    else:
        yield f"{name}: {type(thing).__name__}"


def _class(name: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    made = "" if issubclass(kind, BaseException | enum.Enum) else _made(kind)
    yield f"class {name}({bases})"
    if made:
        yield f"    __init__{made}"
    if issubclass(kind, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in kind)
        return
    annotated = set(inspect.get_annotations(kind))
    fields = {field.name for field in dataclasses.fields(kind)} if _is_data(kind) else set()
    for variable in sorted(annotated - fields):
        if not variable.startswith("_"):
            yield f"    {variable}: {inspect.get_annotations(kind)[variable]}"
    for method, value in sorted(vars(kind).items()):
        if not method.startswith("_") or method in _CALLED:
            yield from _member(method, value)


def _made(kind: type) -> str:
    abstract = getattr(kind, "_is_protocol", False) or "__init__" not in vars(kind)
    return "" if abstract or kind.__name__ in _OF_THE_ENGINE else _signature(kind.__init__)


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property) and value.fget:
        returned = inspect.get_annotations(value.fget).get("return")
        yield f"    {name} -> {returned}"
    elif isinstance(value, classmethod | staticmethod):
        yield f"    {name}{_signature(value.__func__)}"
    elif inspect.isfunction(value):
        yield f"    {name}{_signature(value)}"


def _signature(function: Any) -> str:
    """Annotations as they are written; one parameter per line where they are long."""
    signature = inspect.signature(function)
    parts = list(_parameters(signature))
    returned = signature.return_annotation
    end = "" if returned is signature.empty else f" -> {_annotation(returned)}"
    line = f"({', '.join(parts)}){end}"
    return (
        line if len(line) <= _WIDTH else "(\n        " + ",\n        ".join(parts) + f"\n    ){end}"
    )


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    before, starred = None, False
    for parameter in signature.parameters.values():
        if before == parameter.POSITIONAL_ONLY != parameter.kind:
            yield "/"
        if parameter.kind == parameter.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        yield _parameter(parameter)
        before = parameter.kind
    if before == inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _annotation(written: Any) -> str:
    return (
        written.replace("'", '"') if isinstance(written, str) else inspect.formatannotation(written)
    )


def _default(value: Any) -> str:
    """A public constant by its name, everything else as Python shows it."""
    core = importlib.import_module("camkit_core")
    names = [name for name in core.__all__ if name.isupper() and getattr(core, name) is value]
    return names[0] if names and not isinstance(value, str | int) else _plain(value)


def _plain(value: Any) -> str:
    return re.sub(r" at 0x\w+", "", repr(value))


def _is_data(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) and "__dataclass_fields__" in vars(kind)


if __name__ == "__main__":
    TEMPLATE.write_text(template(), "utf-8", newline="\n")
    API.write_text(api(), "utf-8", newline="\n")
