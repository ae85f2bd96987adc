"""D-RISE against its equation, on a toy detector whose boxes move with the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from perturbation_proof import reference as paper
from perturbation_proof.checks import assert_different, assert_equal, raw
from perturbation_proof.networks import Array, DeepNet, images
from torch import Tensor, nn

from camkit_core import BoundTarget, CapabilityError, Runner, TargetInfo, explain

SIZE, ANCHORS, CLASSES = (10, 14), 5, 3


class ToyDetector(nn.Module):
    """Five boxes per image, the odd ones only where the image is bright: their number changes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        pixels = 3 * SIZE[0] * SIZE[1]
        shape = (ANCHORS, 4 + CLASSES + 1, pixels)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(1.5 * weight / pixels**0.5)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        """Per image: boxes, probabilities and objectness of what is found."""
        return [self._one(image.flatten()) for image in x]

    def _one(self, pixels: Tensor) -> dict[str, Tensor]:
        found = self.weight @ pixels
        corner = torch.tensor([SIZE[1], SIZE[0]], dtype=torch.float64) / 2 * found[:, :2].sigmoid()
        boxes = torch.cat([corner, corner + 2 + 4 * found[:, 2:4].sigmoid()], 1)
        kept = (torch.arange(ANCHORS) % 2 == 0) | (found[:, -1] > 0)
        parts = {
            "boxes": boxes,
            "probabilities": found[:, 4:-1].softmax(1),
            "objectness": found[:, -1].sigmoid(),
        }
        return {name: part[kept] for name, part in parts.items()}


@dataclass(frozen=True)
class First:
    """The first detection of every image."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Keep its box and probabilities."""
        return BoundFirst(
            torch.stack([one["boxes"][0] for one in output]),
            torch.stack([one["probabilities"][0] for one in output]),
        )


@dataclass(frozen=True)
class BoundFirst:
    """Scores the first detection, and compares all with the clean one."""

    boxes: Tensor
    probabilities: Tensor

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Objectness of the first: not what D-RISE weighs with."""
        return torch.stack([one["objectness"][0] for one in output])

    @property
    def similarity(self) -> BoundTarget:
        """By the slow reference."""
        return BoundAlike(self.boxes, self.probabilities)

    def describe(self) -> TargetInfo:
        """Words."""
        return TargetInfo(kind="box", label="the first box")


@dataclass(frozen=True)
class BoundAlike:
    """Similarities, by the slow reference."""

    boxes: Tensor
    probabilities: Tensor

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """One per row."""
        pairs = zip(output, owner.tolist(), strict=True)
        return torch.tensor([self._one(one, image) for one, image in pairs], dtype=torch.float64)

    def _one(self, found: dict[str, Tensor], image: int) -> float:
        arrays = [found[name].numpy() for name in ("boxes", "probabilities", "objectness")]
        detections = list(zip(*arrays, strict=True))
        box, probabilities = self.boxes[image].tolist(), self.probabilities[image].numpy()
        return paper.drise_similarity(box, probabilities, detections)

    def describe(self) -> TargetInfo:
        """Words."""
        return TargetInfo(kind="similarity", label="like the first box")


def masks(count: int, grid: int, p: float, seed: int) -> list[Array]:
    """The masks of a seed, made by resizing the whole grid."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand((count, grid, grid), generator=generator) < p
    steps = [-(-length // grid) for length in SIZE]
    starts = [torch.randint(step, (count,), generator=generator).tolist() for step in steps]
    return [
        paper.rise_mask(one.numpy().astype(float), start, SIZE)
        for one, start in zip(cells, zip(*starts, strict=True), strict=True)
    ]


@pytest.mark.parametrize(("grid", "p"), [(3, 0.5), (16, 0.3)])
def test_equals_the_equation(grid: int, p: float) -> None:
    net, x = ToyDetector(), images(2, size=SIZE)
    with torch.no_grad():
        bound = First().bind(net(x), net)
        numbers = {len(one["boxes"]) for one in net(torch.cat([x, 0.3 * x, -x]))}
    assert len(numbers) > 1, "all images have the same number of boxes, which proves little"

    def similarity(image: int) -> Any:
        def of(pixels: Array) -> float:
            with torch.no_grad():
                found = net(torch.from_numpy(pixels)[None])
            return float(bound.similarity(found, torch.tensor([image])))

        return of

    drawn = masks(30, grid, p, seed=7)
    expected = np.stack([paper.rise(x[i].numpy(), similarity(i), drawn, p) for i in range(2)])
    spec = f"drise:masks=30,grid={grid},p={p}"
    assert_equal(raw(net, x, spec, target=First(), layer=None, seed=7), expected)
    # The score itself would have given another map.
    rise = raw(net, x, spec.replace("drise", "rise"), target=First(), layer=None, seed=7)
    assert_different(rise, expected)


def test_one_target_per_image_and_chunks_of_any_size() -> None:
    net, x = ToyDetector(), images(2, size=SIZE)
    whole = raw(net, x, "drise:masks=20,grid=3", target=First(), layer=None)
    for words in ({"target": [First(), First()]}, {"target": First(), "batch_size": 3}):
        assert_equal(raw(net, x, "drise:masks=20,grid=3", layer=None, **words), whole, 1e-12)


def test_a_target_that_is_no_detection_is_refused() -> None:
    words = r"drise explains detections, but 'class 1' is none: .*target='box:0'.*or use rise"
    with pytest.raises(CapabilityError, match=words):
        explain(DeepNet(), images(1), method="drise:masks=2", target=1)
    with pytest.raises(CapabilityError, match="drise explains detections"):
        explain(DeepNet(), images(2), method="drise:masks=2", target=[1, 2])
