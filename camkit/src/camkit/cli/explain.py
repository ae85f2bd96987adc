"""`camkit explain`: one overlay per photo, method and target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from camkit.cli.options import ExplainOptions
from camkit.cli.terminal import Talk

_TALK = Talk()
DEFAULT_METHODS = ("gradcam",)


def explain(
    images: Annotated[list[Path], Parameter(name="IMAGES...", help="Photos.", negative="")],
    /,
    *,
    options: ExplainOptions,
    talk: Talk = _TALK,
    argv: Annotated[tuple[str, ...], Parameter(parse=False)] = (),
) -> int:
    """Show what a model looked at in photos: one overlay per method and target."""
    from camkit.run import plan
    from camkit.run.execute import execute

    return execute(
        plan.make(images, options, talk, argv=argv, default_methods=DEFAULT_METHODS, grid=False)
    )
