"""`camkit compare`: all methods and targets of a photo in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from camkit.cli.options import ExplainOptions
from camkit.cli.terminal import Talk

_TALK = Talk()
DEFAULT_METHODS = ("gradcam", "gradcampp", "hirescam", "layercam", "eigencam")
"""One method alone has nothing to be compared with."""


def compare(
    images: Annotated[list[Path], Parameter(name="IMAGES...", help="Photos.", negative="")],
    /,
    *,
    options: ExplainOptions,
    talk: Talk = _TALK,
    argv: Annotated[tuple[str, ...], Parameter(parse=False)] = (),
) -> int:
    """Show methods and targets side by side: one picture per photo."""
    from camkit.run import plan
    from camkit.run.execute import execute

    return execute(
        plan.make(images, options, talk, argv=argv, default_methods=DEFAULT_METHODS, grid=True)
    )
