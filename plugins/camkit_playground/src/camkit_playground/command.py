"""`camkit demo`: the words around the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def demo(
    *,
    out: Annotated[
        Path, Parameter(alias="-o", help="Folder for the photo and the pictures.")
    ] = Path("camkit_demo"),
) -> int:
    """Explain scikit-image's cat photo by several methods; nothing is downloaded."""
    from rich.console import Console

    from camkit_core import default_registry
    from camkit_playground.demonstration import demonstrate

    console = Console(stderr=True, highlight=False, markup=False)
    demonstrate(default_registry(), out, lambda line: console.print(line, soft_wrap=True))
    return 0
