"""The answer: maps, scores and where they came from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from camkit_core.protocols import Picture, TargetInfo
from camkit_core.tree import map_tensors, take, tensors

if TYPE_CHECKING:
    from camkit_core.registry import Registry

INPUT = "input"
"""Key of `Explanation.raw` for methods that work in input space."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something a reader of the map must know. `images` are the affected rows."""

    code: str  # e.g. "all_zero", "all_negative", "constant", "no_localisation"
    message: str
    images: tuple[int, ...] = ()
    layer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything needed to repeat the explanation. JSON-friendly."""

    method: str
    parameters: Mapping[str, Any]
    package: str
    version: str
    core_version: str
    layers: tuple[str, ...]
    reshape: Mapping[str, str]
    target: str
    seed: int
    dtype: str
    device: str
    input_shape: tuple[int, ...]
    post: tuple[str, ...]
    forwards: int
    backwards: int
    tails: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain containers only."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Maps of N images for one method and one target.

    Attributes:
        maps: display maps `[N, *S_input]` in [0, 1] with the default post-processing.
        raw: per layer (or `"input"`), the method's signed map `[N, *S_layer]`, never rescaled.
        score: what the target scored for each image, `[N]`.
        output: the model's output, as the model returned it.
        inputs: the image tensor that was explained (not a copy).
        target: what was explained.
        provenance: how to repeat it.
        issues: what a reader must know (empty maps, 1x1 layers, ...).
        pictures: the original photos, if they are known.
    """

    maps: Tensor
    raw: Mapping[str, Tensor]
    score: Tensor
    output: Any
    inputs: Tensor
    target: TargetInfo
    provenance: Provenance
    issues: tuple[Issue, ...] = ()
    pictures: tuple[Picture, ...] = ()
    registry: Registry | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Freeze the mapping of raw maps."""
        object.__setattr__(self, "raw", MappingProxyType(dict(self.raw)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the registry, which every process builds, and without the graph."""
        free = self.detach()
        state = {item.name: getattr(free, item.name) for item in dataclasses.fields(free)}
        return _unpickled, ({**state, "raw": dict(free.raw), "registry": None},)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.maps)

    def __getitem__(self, image: int | slice) -> Explanation:
        """The explanation of one image (still batched, N = 1) or of a slice of images."""
        chosen = range(len(self))[image]
        rows = [chosen] if isinstance(chosen, int) else list(chosen)
        one = torch.tensor(rows, dtype=torch.long, device=self.maps.device)
        alone: Explanation = dataclasses.replace(
            self,
            maps=self.maps[one],
            raw={layer: raw[one] for layer, raw in self.raw.items()},
            score=self.score[one],
            inputs=self.inputs[one],
            output=take(self.output, one, len(self)),
            target=self._target_of(rows),
            issues=tuple(_issues_of(self.issues, rows)),
            pictures=tuple(self.pictures[row] for row in rows) if self.pictures else (),
        )
        return alone

    def _target_of(self, rows: list[int]) -> TargetInfo:
        info = self.target
        labels = tuple(info.labels[row] for row in rows) if info.labels else ()
        one = torch.tensor(rows, dtype=torch.long)
        classes, boxes = info.classes, info.boxes
        if classes is not None:
            classes = classes[one.to(classes.device)]
        return dataclasses.replace(
            info,
            classes=classes,
            labels=labels,
            boxes=None if boxes is None else boxes[one.to(boxes.device)],
            absent=tuple(row for row, old in enumerate(rows) if old in info.absent),
            issues=tuple(_issues_of(info.issues, rows)),
            label=", ".join(dict.fromkeys(labels)) or info.label,
        )

    def __iter__(self) -> Iterator[Explanation]:
        """One explanation per image."""
        return (self[image] for image in range(len(self)))

    def detach(self) -> Explanation:
        """The same without the graph that `differentiable=True` keeps."""
        if not any(one.requires_grad for one in (self.maps, self.score, *tensors(self.output))):
            return self
        free: Explanation = dataclasses.replace(
            self,
            maps=self.maps.detach(),
            raw={layer: raw.detach() for layer, raw in self.raw.items()},
            score=self.score.detach(),
            output=map_tensors(Tensor.detach, self.output),
            inputs=self.inputs.detach(),
        )
        return free

    def on(self, *pictures: Picture) -> Explanation:
        """The same explanation, shown on these original photos (one per image)."""
        if len(pictures) != len(self):
            raise ValueError(f"{len(pictures)} pictures for {len(self)} images")
        shown: Explanation = dataclasses.replace(self, pictures=pictures)
        return shown

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write to `path`; the suffix chooses the writer (.png, .npz, .safetensors, .json).

        Raises:
            UnknownNameError: no installed package writes that suffix.
        """
        path = Path(path)
        self._registry().writer_for(path.suffix)(self.detach(), path, **options)
        return path

    def show(self, renderer: str = "overlay", **options: Any) -> Any:
        """A `PIL.Image.Image` drawn by the named renderer."""
        return self._registry().resolve("renderer", renderer)()([self.detach()], **options)

    def _registry(self) -> Registry:
        from camkit_core.registry import default_registry

        return self.registry or default_registry()

    def _repr_png_(self) -> bytes | None:
        """Notebooks show the picture; without a renderer installed they show the repr."""
        return _png([self.detach()], self._registry())

    def __repr__(self) -> str:
        """One line: method, target, shape, issues."""
        issues = f", issues={[issue.code for issue in self.issues]}" if self.issues else ""
        p = self.provenance
        return (
            f"Explanation({p.method} of {self.target.label} at {', '.join(p.layers) or INPUT}: "
            f"maps {list(self.maps.shape)}{issues})"
        )


class Comparison(Mapping[tuple[Any, int], Explanation]):
    """Explanations keyed `(method as given, position of the target)`, in order of computation."""

    def __init__(self, items: Mapping[tuple[Any, int], Explanation]) -> None:
        """Keep the given order."""
        self._items: dict[tuple[Any, int], Explanation] = dict(items)

    def __getitem__(self, key: tuple[Any, int]) -> Explanation:
        """Explanation of one method and target."""
        return self._items[key]

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Keys, in order."""
        return iter(self._items)

    def __len__(self) -> int:
        """Methods times targets."""
        return len(self._items)

    def show(self, renderer: str = "grid", **options: Any) -> Any:
        """All explanations side by side, as a `PIL.Image.Image`."""
        explanations = [one.detach() for one in self.values()]
        registry = explanations[0]._registry()
        return registry.resolve("renderer", renderer)()(explanations, **options)

    def _repr_png_(self) -> bytes | None:
        """Notebooks show the grid."""
        explanations = [one.detach() for one in self.values()]
        return _png(explanations, explanations[0]._registry()) if explanations else None

    def __repr__(self) -> str:
        """One line per explanation."""
        return "\n".join(f"{key}: {value!r}" for key, value in self._items.items())


def _issues_of(issues: Sequence[Issue], rows: list[int]) -> Iterator[Issue]:
    """The issues of some images, with their new row numbers."""
    for issue in issues:
        images = tuple(row for row, old in enumerate(rows) if old in issue.images)
        if images or not issue.images:
            yield dataclasses.replace(issue, images=images)


def _unpickled(state: dict[str, Any]) -> Explanation:
    return Explanation(**state)


def _png(explanations: list[Explanation], registry: Registry) -> bytes | None:
    """PNG bytes of a grid, or None where no renderer is installed or the maps are not 2-D."""
    if explanations[0].maps.ndim != 3 or not registry.has("renderer", "grid"):
        return None
    import io

    stream = io.BytesIO()
    registry.resolve("renderer", "grid")()(explanations).save(stream, format="PNG")
    return stream.getvalue()
