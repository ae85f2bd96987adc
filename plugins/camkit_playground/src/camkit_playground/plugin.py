"""What this package offers. Imports neither torch nor numpy nor Pillow: listings read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from camkit_core import Entry, hookimpl

if TYPE_CHECKING:
    from PIL.Image import Image

    from camkit_core import LoadedModel


@hookimpl
def camkit_entries() -> list[Entry]:
    """One command, one family of models."""
    return [
        Entry(
            kind="command",
            name="demo",
            ref="camkit_playground.command:demo",
            summary="Explain pictures whose right explanation is known; judge the methods by it.",
        ),
        Entry(
            kind="model family",
            name="demo",
            ref="camkit_playground.networks.spec:load_spec",
            summary="demo:cnn | demo:hans | demo:vit",
        ),
    ]


@hookimpl
def camkit_load_model(spec: str) -> LoadedModel | None:
    """The demo networks."""
    if not spec.strip().startswith("demo:"):
        return None
    from camkit_playground.networks.spec import load_spec

    return load_spec(spec)


@hookimpl
def camkit_open_photo(spec: str) -> Image | None:
    """Duo pictures by their seed."""
    if not spec.startswith("duo:"):
        return None
    from camkit_playground.duo.spec import open_spec

    return open_spec(spec)
