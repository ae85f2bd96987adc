"""`camkit layers`: where a model can be explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from camkit.cli.errors import OK
from camkit.cli.terminal import Talk, cell, columns
from camkit_core import default_registry

if TYPE_CHECKING:
    from rich.table import Table

    from camkit_core import LoadedModel, Prepared

_TALK = Talk()
_SIDE = 256
_READ = {"ChannelsFirst()": "[N, C, *S]", "ChannelsLast()": "[N, *S, C]"}
_TENSOR = re.compile(r"(?:^|tensor )\[([\d, ]*)\]")
"""A shape in a description such as `[1, 4]` or `tuple(tensor [1, 4], tensor [1, 4])`."""


def layers(
    image: Annotated[Path | None, Parameter(help="Photo; its size decides the shapes.")] = None,
    /,
    *,
    model: Annotated[str, Parameter(help="The model, as for explain.")],
    output: Annotated[str | None, Parameter(help="Part of the output, as for explain.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    talk: Talk = _TALK,
) -> int:
    """List a model's layers: shapes, which can be shown as a picture, and the default."""
    from camkit.run.execute import part_of
    from camkit.run.model import load, pick_device
    from camkit_core import probe_layers

    talk = talk.listing()
    registry = default_registry()
    where = pick_device(device)
    loaded = load(registry, model, where, seed=0)
    prepared = _prepared(loaded, image)
    inputs, part = prepared.inputs.to(where), part_of(output)
    report = probe_layers(loaded, inputs, output=part, registry=registry)
    rows = [_record(row) for row in report.rows]
    for row in rows:
        talk.emit(row)
    talk.show(_table(rows))
    talk.say(f"* default: {report.default} ({report.reason})")
    talk.say("give one with --layer NAME; negative positions work too, such as layer4.-1")
    return OK


def _prepared(loaded: LoadedModel, image: Path | None) -> Prepared:
    if image is not None:
        from camkit.photo import open_photo

        return loaded.preprocess(open_photo(image))
    from PIL import Image

    # Noise, because in a plain picture most gradients would vanish.
    noise = Image.effect_noise((_SIDE, _SIDE), 64).convert("RGB")
    frames = getattr(loaded.preprocess, "frames", None)  # a video network takes several
    return loaded.preprocess([noise] * frames if isinstance(frames, int) else noise)


def _record(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": row.kind,
        "output": row.output,
        "picture": None if row.spatial is None else list(row.spatial),
        "reshape": row.reshape or None,
        "calls": row.calls,
        "default": row.default,
        "note": row.note,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    names = ("  layer", "type", "output", "picture", "read as", "calls", "note")
    table = columns(*names, wrap=["note"], right=["calls"])
    for row in rows:
        picture = "x".join(map(str, row["picture"])) if row["picture"] else "-"
        style = "bold" if row["default"] else "" if row["picture"] else "dim"
        name = f"{'*' if row['default'] else ' '} {row['name']}"
        read = _READ.get(row["reshape"], row["reshape"] or "-")
        facts = (name, row["type"], row["output"], picture, read, row["calls"], _brief(row))
        table.add_row(*(cell(fact, style) for fact in facts))
    return table


def _brief(row: dict[str, Any]) -> str:
    """The note in a few words: with advice in every row the table could not be read."""
    if row["calls"] != 1:
        return f"name one call, #0 to #{row['calls'] - 1}"
    if row["picture"] or not row["note"]:
        return str(row["note"])
    shapes = _TENSOR.findall(row["output"])
    if len(shapes) > 1:
        return "returns several tensors"
    axes = shapes[0].count(",") + 1 if shapes else 0
    return {2: "one vector per image", 3: "tokens, grid unknown"}.get(axes, "layout unknown")
