"""Everything a run decides before it loads the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camkit.cli.errors import Usage
from camkit.cli.options import ExplainOptions
from camkit.photo import open_photo
from camkit.run import request
from camkit.run.model import pick_device
from camkit_core import default_registry

if TYPE_CHECKING:
    import torch

    from camkit.cli.terminal import Talk
    from camkit_core import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked request."""

    images: tuple[Path, ...]
    options: ExplainOptions
    talk: Talk
    argv: tuple[str, ...]
    grid: bool  # one picture per photo instead of one per explanation
    registry: Registry
    device: torch.device
    specs: tuple[str, ...]
    targets: tuple[request.Wanted, ...]
    layers: tuple[str, ...] | None
    suffixes: tuple[str, ...]


def make(
    images: Sequence[Path],
    options: ExplainOptions,
    talk: Talk,
    *,
    argv: Sequence[str],
    default_methods: Sequence[str],
    grid: bool,
) -> Plan:
    """The plan, after everything was refused that can be refused without the model.

    Raises:
        CamkitError: a wrong method, method option, format or device; or the only image cannot be
            opened.
    """
    if options.scale == "shared" and not grid:
        raise Usage(
            "--scale shared compares maps inside one picture, but explain draws one picture per "
            "map; use camkit compare"
        )
    registry = default_registry()
    specs = request.method_specs(options.method, default_methods, registry)
    if len(images) == 1:
        open_photo(images[0])
    return Plan(
        images=tuple(images),
        options=options,
        talk=talk,
        argv=tuple(argv),
        grid=grid,
        registry=registry,
        device=pick_device(options.device),
        specs=specs,
        targets=request.targets(options.target),
        layers=request.layers(options.layer),
        suffixes=request.formats(options.format, registry),
    )
