"""What every model family is tested by: explained with nothing but a model and an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from camkit import explain
from camkit_core import Explanation

GRADIENT, EIGEN, ABLATION = "gradcam", "eigencam", "ablationcam"


@dataclass(frozen=True)
class Family:
    """A network of the real class, and the layer and layout that a person would give by hand."""

    name: str
    build: Callable[[], nn.Module]
    layer: str
    read: Callable[[Any], Tensor] | None = None  # the layer's output as [N, C, *S], by hand
    size: tuple[int, ...] = (64, 64)
    images: int = 1
    methods: Sequence[str] = (GRADIENT, EIGEN)
    words: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def model(self) -> nn.Module:
        """Random weights from the seed; those that start at zero get a value."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self.build()
            for parameter in model.parameters():
                if not parameter.any():
                    with torch.no_grad():
                        parameter.normal_(std=0.05)
        return model.eval()

    def image(self) -> Tensor:
        """A smooth picture with some noise."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        size = tuple(max(side // 8, 2) for side in self.size)
        kind = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        smooth = torch.randn(self.images, 3, *size, generator=generator)
        smooth = nn.functional.interpolate(smooth, size=self.size, mode=kind)
        return smooth + 0.3 * torch.randn(smooth.shape, generator=generator)


def telling(explanation: Explanation, image: Tensor) -> None:
    """Fail on a map that is constant, not finite, or not of the image's size."""
    assert explanation.maps.shape == (len(image), *image.shape[2:])
    for one in (explanation.maps, *explanation.raw.values()):
        assert bool(torch.isfinite(one).all())
        assert bool((one.flatten(1).std(1) > 1e-8 * (one.abs().max() + 1e-30)).all())
    assert float(explanation.maps.max()) > 0.5


def check(family: Family) -> None:
    """Every method with no argument but model and image, against layer and layout by hand."""
    model, image = family.model(), family.image()
    for method in family.methods:
        found = explain(model, image, method, **family.words)
        telling(found, image)
        assert found.provenance.layers == (family.layer,)
        given: dict[str, Any] = {"layers": family.layer, **family.words}
        if family.read is not None and method != ABLATION:
            given["reshape"] = family.read
        wanted = explain(model, image, method, **given)
        torch.testing.assert_close(found.raw[family.layer], wanted.raw[family.layer])
        torch.testing.assert_close(found.maps, wanted.maps)
        if family.read is not None:
            assert_layout(model, family, found)


def assert_layout(model: nn.Module, family: Family, found: Explanation) -> None:
    """The raw map has the picture's shape as read by hand."""
    kept: list[Any] = []
    layer = model.get_submodule(family.layer)
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        model(family.image())
    handle.remove()
    assert family.read is not None
    assert found.raw[family.layer].shape[1:] == family.read(kept[0]).shape[2:]
