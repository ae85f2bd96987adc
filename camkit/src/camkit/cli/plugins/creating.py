"""`camkit plugins new`: a plugin package that works, to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from camkit.cli.errors import OK, Usage
from camkit.cli.plugins.names import checked, close_names
from camkit.cli.plugins.template import files_for, write
from camkit.cli.terminal import Talk
from camkit_core import default_registry

_TALK = Talk()


def new(
    name: Annotated[str, Parameter(help="Name of the method; the package is called camkit-NAME.")],
    /,
    *,
    talk: Talk = _TALK,
) -> int:
    """Write a plugin that works into the new folder camkit-NAME: change it into yours."""
    registry = default_registry()
    chosen = checked(name, registry)
    folder = Path(chosen.distribution)
    if folder.exists():
        raise Usage(f"{folder} exists already; choose another name, or remove it")
    files = files_for(chosen)
    write(files, folder)
    commands = [
        f"cd {folder}",
        "python -m pip install --editable . pytest",
        f"camkit plugins check {chosen.distribution}",
    ]
    talk.emit(
        {
            "folder": str(folder),
            "distribution": chosen.distribution,
            "package": chosen.package,
            "files": sorted(files),
            "next": commands,
        }
    )
    for other in close_names(chosen, registry):
        talk.warn(f"{other!r} exists and is spelled almost like {chosen.word!r}")
    talk.say(f"wrote {folder}: {len(files)} files, a method, a target and a reshape that work")
    talk.say("next:")
    for command in commands:
        talk.say(f"  {command}")
    return OK
