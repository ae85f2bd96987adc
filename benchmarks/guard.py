"""Speed of a wrong or empty picture is worth nothing: every row is checked before it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.contenders import CONTENDERS, Key, Maps, explanations
from benchmarks.scenes import Scene

INCUMBENT = {
    "gradcampp": "gradcampp:variant=grad-cam",
    "xgradcam": "xgradcam:variant=grad-cam",
    "eigencam": "eigencam:variant=grad-cam",
    "eigengradcam": "eigengradcam:variant=grad-cam",
}
"""Where formulas differ, camkit's variant that means what grad-cam computes."""

UNSIGNED = frozenset({"eigencam", "eigengradcam"})
"""Principal components: the peer's sign is an accident of its linear algebra library."""

TOLERANCE = 1e-3
_LEAST = 0.5


class GuardError(Exception):
    """A row compares nothing, or compares different things."""


def reference(scene: Scene, *, sample: int | None = None) -> dict[Key, Tensor]:
    """Maps of camkit to compare with grad-cam's: its variants, raw and signed, `[N, h, w]`."""
    row = scene.row
    spelled = {INCUMBENT.get(method, method): method for method in row.methods}
    found = explanations(scene, list(spelled), range(sample or row.targets))
    return {
        (spelled[method], target): next(iter(one.raw.values()))
        for (method, target), one in found.items()
    }


def display(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """What everybody draws: rectified, to [0, 1], resized, to [0, 1]."""
    small = unit(raw.clamp_min(0))
    return unit(interpolate(small[:, None], size, mode="bilinear", align_corners=False)[:, 0])


def unit(maps: Tensor) -> Tensor:
    """Each map to [0, 1]; constant ones become zero."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 0.0)


def lively(maps: Mapping[Key, Any], *, many: bool) -> None:
    """Refuse maps that are all zero.

    Args:
        maps: display maps `[N, H, W]` by method and target.
        many: classes were not chosen by the model, so half of the maps may be empty.

    Raises:
        GuardError: too many of them are empty.
    """
    tops = {key: as_tensor(found).amax((1, 2)) for key, found in maps.items()}
    alive = {key: float((top > _LEAST).float().mean()) for key, top in tops.items()}
    mean = sum(alive.values()) / max(len(alive), 1)
    if mean < (0.5 if many else 1.0):
        empty = [f"{method}[{target}]" for (method, target), part in alive.items() if part < 1]
        raise GuardError(f"empty maps would be compared: {', '.join(empty[:5]) or 'no maps'}")


def differences(ours: Mapping[Key, Tensor], theirs: Maps, scene: Scene) -> dict[str, float]:
    """Largest difference of display maps per method, over the maps both have."""
    worst: dict[str, float] = {}
    for key in ours.keys() & theirs.keys():
        wanted = unit(as_tensor(theirs[key]))
        signs = (1, -1) if key[0] in UNSIGNED else (1,)
        each = torch.stack(
            [(display(sign * ours[key].cpu(), scene.size) - wanted).abs() for sign in signs]
        )
        off = float(each.amax((2, 3)).amin(0).max())
        worst[key[0]] = max(worst.get(key[0], 0.0), off)
    return worst


def inspect(scene: Scene, produced: Mapping[str, Maps]) -> dict[str, dict[str, float]]:
    """Check what all contenders produced; differences to camkit's maps per peer and method.

    Raises:
        GuardError: empty maps, or maps that are not those of grad-cam.
    """
    row = scene.row
    for maps in produced.values():
        lively(maps, many=row.targets > 1)
    ours = reference(scene, sample=row.sample)
    found = {
        name: differences(ours, maps, scene)
        for name, maps in produced.items()
        if CONTENDERS[name].distribution != "camkit"
    }
    wrong = {m: off for m, off in found.get("grad-cam", {}).items() if off > TOLERANCE}
    if wrong:
        raise GuardError(f"camkit's maps are not grad-cam's: {wrong}")
    return found


def as_tensor(maps: Any) -> Tensor:
    """A tensor on the CPU, whatever a peer returns."""
    return torch.as_tensor(maps).detach().float().cpu()
