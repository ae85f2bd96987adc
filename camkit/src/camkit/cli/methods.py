"""`camkit methods`: the list, or one method's card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import Parameter

from camkit.cli.listing import warn_of_problems
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import Entry, default_registry

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.table import Table

_TALK = Talk()


def methods(
    name: Annotated[str | None, Parameter(help="Show the card of this method.")] = None,
    /,
    *,
    talk: Talk = _TALK,
) -> int:
    """List the installed explanation methods, or show one method's card with its options."""
    talk = talk.listing()
    registry = default_registry()
    if name is not None:
        return _card(registry.find("method", name), talk)
    entries = registry.entries("method")
    for entry in entries:
        talk.emit(_record(entry))
    talk.show(_table(entries))
    if not entries:
        talk.warn('no method is installed; pip install "camkit[gradient]" brings twenty')
    talk.say("camkit methods NAME shows the options of one; costs: F forward, B backward passes")
    warn_of_problems(talk, registry)
    return 0


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": entry.aliases,
        "summary": entry.summary,
        "needs": entry.needs,
        "runs": entry.runs,
        "class_discriminative": entry.class_discriminative,
        "paper": entry.paper.short if entry.paper else "",
        "url": entry.paper.url if entry.paper else "",
        "distribution": entry.distribution,
    }


def _table(entries: tuple[Entry, ...]) -> Table:
    table = columns("method", "cost", "per class", "what it does", wrap=["what it does"])
    for entry in entries:
        facts = (entry.runs, _per_class(entry), entry.summary)
        table.add_row(cell(entry.name, "bold"), *map(cell, facts))
    return table


def _per_class(entry: Entry) -> str:
    return {True: "yes", False: "no", None: ""}[entry.class_discriminative]


def _card(entry: Entry, talk: Talk) -> int:
    options = [_option(*item) for item in _fields(entry).items()]
    talk.emit({**_record(entry), "options": options})
    talk.say(entry.name, "bold")
    talk.say(entry.summary)
    for title, text in _facts(entry):
        talk.say(f"  {title:<14}{text}")
    if not options:
        talk.say(f"  {'options':<14}none")
        return 0
    talk.show(_options_table(options))
    first = options[0]
    talk.say(f"  give them as: -m {entry.name}:{first['name']}={first['default']}")
    return 0


def _facts(entry: Entry) -> list[tuple[str, str]]:
    per_class = {
        True: "yes: different classes give different maps",
        False: "no: the map is the same for every class",
        None: "not declared",
    }
    facts = [
        ("cost", entry.runs),
        ("needs", ", ".join(entry.needs)),
        ("per class", per_class[entry.class_discriminative]),
        ("also called", ", ".join(entry.aliases)),
        ("paper", f"{entry.paper.title} ({entry.paper.short})" if entry.paper else ""),
        ("", entry.paper.url if entry.paper else ""),
        ("comes with", entry.distribution),
    ]
    return [(title, text) for title, text in facts if text]


def _fields(entry: Entry) -> dict[str, FieldInfo]:
    """The method's own option model; only this needs torch."""
    method = default_registry().resolve("method", entry.qualified)
    fields: dict[str, FieldInfo] = getattr(method, "model_fields", {})
    return fields


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    return {
        "name": name,
        "type": _type_name(field.annotation),
        "default": "required"
        if field.is_required()
        else field.get_default(call_default_factory=True),
        "description": field.description or "",
    }


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _options_table(options: list[dict[str, Any]]) -> Table:
    table = columns("  option", "type", "default", "meaning", wrap=["type", "meaning"])
    for option in options:
        facts = (option[key] for key in ("type", "default", "description"))
        table.add_row(cell(f"  {option['name']}"), *map(cell, facts))
    return table
