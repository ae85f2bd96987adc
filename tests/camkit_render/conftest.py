"""Explanations built by hand: no model is needed to know what a picture must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from camkit_core import Explanation, Geometry, Issue, Picture, Provenance, TargetInfo

Make = Callable[..., Explanation]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make() -> Make:
    """`make(maps, ...)`: an explanation of these display maps `[N, *S]`."""
    return make_explanation


def make_explanation(
    maps: Tensor,
    *,
    raw: Mapping[str, Tensor] | Tensor | None = None,
    inputs: Tensor | None = None,
    pictures: Sequence[Picture] = (),
    issues: Sequence[Issue] = (),
    score: Sequence[float] | None = None,
    label: str = "class 281",
    labels: tuple[str, ...] = (),
    classes: Sequence[int] | None = None,
    method: str = "gradcam",
    layers: tuple[str, ...] = ("layer4",),
    parameters: Mapping[str, Any] | None = None,
) -> Explanation:
    if inputs is None:
        generator = torch.Generator().manual_seed(7)
        inputs = torch.rand(len(maps), 3, *maps.shape[1:], generator=generator)
    if raw is None:
        raw = maps
    return Explanation(
        maps=maps,
        raw={layers[0]: raw} if isinstance(raw, Tensor) else raw,
        score=torch.tensor([1.5] * len(maps) if score is None else list(score)),
        output=None,
        inputs=inputs,
        target=TargetInfo(
            kind="class",
            label=label,
            labels=labels,
            classes=None if classes is None else torch.tensor(list(classes)),
        ),
        provenance=Provenance(
            method=method,
            parameters=parameters or {},
            package="camkit-methods-gradient",
            version="0.1.0",
            core_version="0.1.0",
            layers=layers,
            reshape={},
            target="281",
            seed=0,
            dtype="float32",
            device="cpu",
            input_shape=tuple(inputs.shape),
            post=("relu", "normalize"),
            forwards=1,
            backwards=1,
        ),
        issues=tuple(issues),
        pictures=tuple(pictures),
    )


@pytest.fixture
def noise_photo() -> Callable[[int, int], Image.Image]:
    """`noise_photo(height, width)`: a photo in which every pixel is different."""

    def photo(height: int, width: int) -> Image.Image:
        random = np.random.default_rng(height * 1000 + width)
        return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return photo


@pytest.fixture
def crop_geometry() -> Callable[..., Geometry]:
    """Resize the short side to `short`, then crop `size` x `size` from the center."""

    def geometry(height: int, width: int, short: int, size: int) -> Geometry:
        resized = [round(side * short / min(height, width)) for side in (height, width)]
        scale = (height / resized[0], width / resized[1])
        corner = [round((side - size) / 2) for side in resized]
        return Geometry(
            source_size=(height, width),
            input_size=(size, size),
            scale=scale,
            offset=(corner[0] * scale[0], corner[1] * scale[1]),
        )

    return geometry
