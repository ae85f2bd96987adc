"""Stand-ins for what the playground asks the registry for. Slow, plain, and independent."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from camkit_core import (
    CapabilityError,
    Entry,
    Evidence,
    Explanation,
    MethodModel,
    MetricModel,
    Need,
    Registry,
    hookimpl,
)


class Mean(MethodModel):
    """Average activation, blind to the class."""

    name: ClassVar[str] = "eigencam"
    needs: ClassVar[Need] = Need.ACTIVATIONS

    def __call__(self, capture: Any, /) -> Tensor:
        return capture.activations.mean(1)


class Weighted(MethodModel):
    """Gradient times activation."""

    name: ClassVar[str] = "gradcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Any, /) -> Tensor:
        return (capture.gradients * capture.activations).sum(1)


class Nothing(MethodModel):
    """An empty map for odd images of the batch."""

    name: ClassVar[str] = "nothing"
    needs: ClassVar[Need] = Need.ACTIVATIONS

    def __call__(self, capture: Any, /) -> Tensor:
        even = torch.arange(len(capture.activations)) % 2 == 0
        return capture.activations.mean(1) * even[:, None, None]


def share(explanation: Explanation, mask: Tensor, among: Tensor) -> Tensor:
    """One image at a time."""
    values = []
    for map_, inside, all_ in zip(explanation.maps.double(), mask, among, strict=True):
        whole = float(map_[all_].clamp_min(0).sum())
        values.append(float(map_[inside].clamp_min(0).sum()) / whole if whole else float("nan"))
    return torch.tensor(values, dtype=torch.float64)


class Energy(MetricModel):
    name: ClassVar[str] = "energy"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        target = self.truth(explanation, evidence).target
        return share(explanation, target, torch.ones_like(target))


class Elsewhere(Energy):
    """The less the better."""

    name: ClassVar[str] = "elsewhere"
    higher_is_better: ClassVar[bool] = False

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        return 1 - super().__call__(explanation, evidence)


class Contrast(MetricModel):
    name: ClassVar[str] = "contrast"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        truth = self.truth(explanation, evidence)
        if truth.rivals is None:
            raise CapabilityError("contrast needs rivals")
        return share(explanation, truth.target, truth.target | truth.rivals)


class Cells(MetricModel):
    name: ClassVar[str] = "gridpg"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        cell = self.truth(explanation, evidence).cell
        if cell is None:
            raise CapabilityError("gridpg needs cells")
        return share(explanation, cell, torch.ones_like(cell))


class Faith(MetricModel):
    name: ClassVar[str] = "faith"

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        raise CapabilityError("metric faith needs the capture")


class Center:
    name = "center"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        size = explanation.maps.shape[1]
        side = 1 - torch.linspace(-1, 1, size).abs()
        return (side[:, None] * side).expand_as(explanation.maps)


class Oracle:
    name = "oracle"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        assert evidence.truth is not None
        return evidence.truth.target.float()


class Random:
    name = "random"

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        return torch.rand(explanation.maps.shape, generator=torch.Generator().manual_seed(seed))


class Row:
    """A renderer: display maps side by side, gray."""

    name = "grid"

    def __call__(self, explanations: list[Explanation], /, **options: Any) -> Image.Image:
        seen.append((list(explanations), options))
        maps = torch.cat([each.maps[0] for each in explanations], 1)
        return Image.frombytes("L", maps.shape[::-1], bytes((255 * maps).byte().flatten().tolist()))


seen: list[tuple[list[Explanation], dict[str, Any]]] = []
"""What the renderer was asked to draw."""


class Png:
    """A writer."""

    name = "png"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        Row()([explanation], **options).save(path)


_METHODS = {
    "Mean": ("activations",),
    "Weighted": ("activations", "gradients"),
    "Nothing": ("activations",),
}
_OTHERS = {
    "metric": ("Energy", "Elsewhere", "Contrast", "Cells", "Faith"),
    "control": ("Center", "Oracle", "Random"),
    "renderer": ("Row",),
    "writer": ("Png",),
}


def stand_ins(*, without: tuple[str, ...] = ()) -> ModuleType:
    """A plugin that offers everything but some kinds."""
    offered = [_entry("method", name, needs=needs) for name, needs in _METHODS.items()]
    for kind, names in _OTHERS.items():
        suffixes = (".png",) if kind == "writer" else ()
        offered += [_entry(kind, name, suffixes=suffixes) for name in names]
    module = ModuleType("stand_ins")

    @hookimpl
    def camkit_entries() -> list[Entry]:
        return [entry for entry in offered if entry.kind not in without]

    module.camkit_entries = camkit_entries  # type: ignore[attr-defined]
    return module


def _entry(kind: str, attribute: str, **facts: Any) -> Entry:
    name = globals()[attribute].name
    ref = f"{__name__}:{attribute}"
    return Entry(kind=kind, name=name, ref=ref, summary=f"the stand-in {name}", **facts)


def registry_of(*plugins: tuple[str, ModuleType], without: tuple[str, ...] = ()) -> Registry:
    """The playground's own plugin and the stand-ins, nothing else."""
    given = [("stand-ins", stand_ins(without=without)), *plugins]
    names = [name for name, _ in given]
    return Registry(plugins=given, allow=["camkit-playground", *names], strict=True)
