"""The options `camkit explain` and `camkit compare` share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number


def chunk_is_understood(_: object, text: str | None) -> None:
    """A positive number, or a number and a unit."""
    if text is not None and not re.fullmatch(
        r"[1-9]\d*|\d+(\.\d+)?\s*[kmg]?i?b", text.strip(), re.IGNORECASE
    ):
        raise ValueError("give a number of copies such as 64, or an amount such as 512MB")


_WHAT = Group("What is explained", sort_key=1)
_HOW = Group("How it is drawn", sort_key=2)
_RUN = Group("How it runs", sort_key=3)
_FILES = Group("Where it goes", sort_key=4)


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Everything a run can be told."""

    model: Annotated[str, Parameter(group=_WHAT)]
    """torchvision:NAME with @none (random) or @FILE, FILE.py:FACTORY for your own, or demo:cnn."""

    method: Annotated[tuple[str, ...], Parameter(alias="-m", group=_WHAT, show_default=False)] = ()
    """Method, options after a colon: gradcampp:variant=grad-cam. Repeatable, or comma separated."""

    target: Annotated[tuple[str, ...], Parameter(alias="-t", group=_WHAT, show_default=False)] = ()
    """pred (what the model says, the default), top3, 281, "tabby cat", 281-vs-282, box:0,
    pixel:x,y, region:mask.png, text:"a dog", like:ref.jpg: see camkit targets. Repeatable."""

    layer: Annotated[tuple[str, ...], Parameter(alias="-l", group=_WHAT, show_default=False)] = ()
    """Layer such as layer4.-1 (see camkit layers). Repeat to average. Default: found by a probe."""

    output: Annotated[str | None, Parameter(group=_WHAT)] = None
    """Which part of what the model returns is explained: its name, or its number."""

    post: Annotated[str, Parameter(group=_HOW)] = "default"
    """From raw maps to pictures: default, signed or raw."""

    alpha: Annotated[float | None, Parameter(group=_HOW, validator=Number(gte=0, lte=1))] = None
    """Opacity of the heat map, 0 to 1."""

    colormap: Annotated[str | None, Parameter(group=_HOW)] = None
    """Name of a color map, for example inferno or jet."""

    scale: Annotated[Literal["own", "shared"], Parameter(group=_HOW)] = "own"
    """Color scale: each map its own, or (compare only) one per method, shared by its maps."""

    device: Annotated[str, Parameter(group=_RUN)] = "auto"
    """auto, cpu, cuda or cuda:N."""

    batch_size: Annotated[int, Parameter(group=_RUN, validator=Number(gte=1))] = 8
    """Photos per model call."""

    chunk: Annotated[str | None, Parameter(group=_RUN, validator=chunk_is_understood)] = None
    """Masked or changed copies per model call: a number, or memory such as 512MB."""

    budget: Annotated[int | None, Parameter(group=_RUN, validator=Number(gte=1))] = None
    """Most forward passes for a batch of photos; what would take more is refused beforehand."""

    precision: Annotated[Literal["exact", "fast"], Parameter(group=_RUN)] = "exact"
    """fast: half precision for methods that mask the photo; how well it agrees is reported."""

    seed: Annotated[int, Parameter(group=_RUN, validator=Number(gte=0))] = 0
    """Seed of random weights and random methods."""

    out: Annotated[Path, Parameter(alias="-o", group=_FILES)] = Path("camkit_out")
    """Folder for pictures, maps and results."""

    format: Annotated[tuple[str, ...], Parameter(group=_FILES, show_default=False)] = ()
    """Comma separated: png, npz, safetensors, json. Default: png,safetensors."""

    overwrite: Annotated[bool, Parameter(group=_FILES, show_default=False)] = False
    """Replace the run that is in the folder."""
