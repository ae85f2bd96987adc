"""On real networks, running from a layer on gives what the whole model gives.

`python -m tests.integration.test_tail_zoo FILE` writes the table of all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from camkit_core import Capture, MethodModel, Need, Provenance, TensorRows, explain
from camkit_core.remember import _FACTS

from .family_helpers import calibrated
from .zoo_helpers import TIMM, TORCHVISION, Subject, picked, unchanged

CLASSES = 7
ROUNDING = 3e-5
"""Of a score's scale: float32 sums in another order, amplified by dozens of normalizations."""

EXTRA = {
    "resnet18": ("layer2.0.conv1", "layer4.1.bn2"),
    "resnext50_32x4d": ("layer4.2.bn3", "layer3.0.downsample.0"),
    "densenet121": ("features.denseblock3.denselayer4.norm1", "features.denseblock4.denselayer16"),
    "vgg11": ("features.18",),
    "vit_b_32": ("encoder.layers.encoder_layer_11.ln_1", "encoder.layers.encoder_layer_3"),
    "swin_t": ("features.7.1.norm1", "features.5.3"),
}
"""Layers besides the picked ones: inside of blocks, before in-place operations, whole blocks."""


class AsRow:
    """Any layer's output `[N, ...]` as `[N, 1, L, 1]`, and back."""

    def to_spatial(self, output: Tensor, /) -> Tensor:
        """One long row."""
        return output.flatten(1)[:, None, :, None]

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        """In the shape of `like`."""
        return maps.reshape(like.shape)


@dataclass(frozen=True)
class Found:
    """One layer of one network.

    Attributes:
        off: largest difference of a score from the whole model's, as part of its scale.
        moved: how far changing the layer moved the score, as part of its scale.
        way: "tail", or why it fell back.
        share: arithmetic of one row from the layer on, as part of the whole model's.
    """

    network: str
    layer: str
    off: float
    moved: float
    way: str
    share: float


def weighted(output: Any) -> Tensor:
    """A score in which every number of one image's output takes part."""
    return _terms(output).sum()


def _terms(output: Any) -> Tensor:
    if isinstance(output, list):
        output = output[0]
    if isinstance(output, dict) and "scores" in output:
        return output["scores"].sort(descending=True).values[:20]
    parts = output.values() if isinstance(output, dict) else [output]
    flat = torch.cat([part.flatten() for part in parts if torch.is_floating_point(part)])
    return flat * torch.linspace(-1, 2, len(flat), dtype=flat.dtype)


@torch.no_grad()
def awake(subject: Subject) -> nn.Module:
    """A network whose scores depend on what is inside, which random weights alone do not ensure.

    Normalized by the batch at hand; layer scales that start near zero become one half; the last
    layer, which some libraries start near zero, has weights of unit gain and no bias.
    """
    net = subject.build()
    for parameter in net.parameters():
        if parameter.shape[:1] == (CLASSES,):
            fan = parameter[0].numel()
            parameter.mul_(fan**-0.5 / parameter.std() if parameter.ndim > 1 else 0)
        elif parameter.ndim and float(parameter.abs().max()) <= 1e-4:
            parameter.fill_(0.5)
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randn(16, 3, subject.size, subject.size, generator=generator)
    return calibrated(net, pictures)


def rows_of(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of both images in mixed order: clean, scaled, cut, noisy."""
    generator = torch.Generator().manual_seed(7)
    owner = torch.tensor([1, 0, 0, 1, 0])
    rows = clean[owner].clone()
    rows[2] *= 0.5
    rows[3, ..., ::2, :] = 0
    rows[4] += torch.randn(rows[4].shape, generator=generator) * clean.std()
    return rows, owner


def by_hand(
    net: nn.Module, x: Tensor, layer: str, rows: Tensor, owner: Tensor
) -> tuple[Tensor, float]:
    """Scores of the whole model, run once per row with a hook that exchanges the output.

    And the scale of their rounding errors: the largest sum of what they are added up from.
    """
    module, scores, scale = net.get_submodule(layer), [], 0.0
    for row, image in zip(rows, owner.tolist(), strict=True):
        handle = module.register_forward_hook(
            lambda m, a, out, row=row: row.reshape(1, *out.shape[1:]).clone()
        )
        try:
            with torch.no_grad():
                output = net(x[image : image + 1])
        finally:
            handle.remove()
        terms = _terms(output)
        scores.append(float(terms.sum()))
        scale = max(scale, float(terms.abs().sum()))
    return torch.tensor(scores), scale


def asked(net: nn.Module, x: Tensor, layer: str) -> tuple[Tensor, Tensor, Tensor, Provenance]:
    """Scores by `capture.tail`, the rows, and what the engine says of the way."""
    kept: list[Tensor] = []

    class Ask(MethodModel):
        name = "ask"
        needs = Need.ACTIVATIONS | Need.TAIL

        def __call__(self, capture: Capture, /) -> Tensor:
            rows, owner = rows_of(capture.activations)
            kept.extend([capture.tail(TensorRows(rows, owner)), rows, owner])
            return capture.activations[:, 0]

    found = explain(net, x, Ask(), weighted, layer, reshape=AsRow(), batch_size=3)
    return kept[0], kept[1], kept[2], found.provenance


def examine(name: str, net: nn.Module, x: Tensor, layer: str) -> Found:
    """Both ways, compared."""
    with torch.no_grad():
        net(x)  # some networks keep something of their first forward
    with unchanged(net, x):
        scores, rows, owner, provenance = asked(net, x, layer)
    wanted, scale = by_hand(net, x, layer, rows, owner)
    slow = [note for note in provenance.notes if note.startswith("SLOW")]
    return Found(
        name,
        layer,
        float((scores - wanted).abs().max()) / scale,
        float((wanted - wanted[[0, 1, 1, 0, 1]]).abs().max()) / scale,
        slow[0].split(": ", 2)[-1] if slow else "tail",
        share_of(net, layer),
    )


def share_of(net: nn.Module, layer: str) -> float:
    """What the engine found out about the tail when it tried it."""
    facts = [fact for key, fact in _FACTS[net].items() if key[0] == "tail" and key[1][0] == layer]
    return float(facts[-1].share)


class Skips(nn.Module):
    """A U-Net whose skips are joined by `cat` and then written to in place."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 16)))
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.act = nn.ReLU(inplace=True)
        self.up = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((32, 8), (16, 8)))
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for conv in self.down:
            x = self.act(conv(x))
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.deep(x)
        for conv, skip in zip(self.up, reversed(skips), strict=True):
            skip.mul_(0.5).add_(0.1)
            x = torch.cat([skip, F.interpolate(x, skip.shape[2:])], 1)
            x = self.act(conv(x))
        return self.head(x).mean((2, 3))


def skips() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Skips().eval()


def segmenter() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=6, aux_loss=True
        )
        return calibrated(net.eval(), pictures())


def pictures() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


DETECTOR_LAYERS = ("backbone.body.6", "backbone.body.16", "backbone.fpn.inner_blocks.0")


def detector() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=5, box_score_thresh=0.0,
            min_size=96, max_size=128,
        ).eval()  # fmt: skip
        with torch.no_grad():
            net.roi_heads.box_predictor.cls_score.weight.mul_(10)
        return calibrated(net, photos())


def photos() -> Tensor:
    return torch.rand(2, 3, 96, 112, generator=torch.Generator().manual_seed(0))


def examine_detector(net: nn.Module, layer: str) -> Found:
    """Faster R-CNN: a list of boxes per image, whose number may change with the features."""
    return examine("fasterrcnn_mobilenet_v3_large_320_fpn", net, photos(), layer)


def layers_of(subject: Subject, net: nn.Module) -> tuple[str, ...]:
    return (*picked(net, (subject.images(),), 2), *EXTRA.get(subject.name, ()))


SUBJECTS = [
    pytest.param(subject, id=subject.name, marks=[pytest.mark.slow] if subject.slow else [])
    for subject in TORCHVISION + TIMM
]
OTHERS = {
    "U-Net with in-place skips": (skips, ("down.0", "down.1", "deep.0", "deep", "up.0")),
    "deeplabv3_mobilenet_v3_large": (
        segmenter,
        ("backbone.8", "backbone.16", "classifier.0.convs.1", "classifier.1"),
    ),
}


def judge(found: Found) -> None:
    assert found.moved > max(1e-5, 20 * found.off), f"the rows move nothing: {found}"
    assert found.off <= ROUNDING, f"not what the whole model gives: {found}"
    assert found.way == "tail", f"fell back: {found}"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_scores_from_a_layer_on_are_those_of_the_whole_network(subject):
    net = awake(subject)
    for layer in layers_of(subject, net):
        judge(examine(subject.name, net, subject.images(), layer))


@pytest.mark.parametrize("name", OTHERS)
def test_skips_and_branches_around_the_layer(name):
    build, layers = OTHERS[name]
    net = build()
    for layer in layers:
        judge(examine(name, net, pictures(), layer))


@pytest.mark.parametrize("layer", DETECTOR_LAYERS)
def test_a_detector_s_backbone(layer):
    judge(examine_detector(detector(), layer))


def everything() -> Iterator[Found]:
    """All networks, one layer after the other."""
    for subject in TORCHVISION + TIMM:
        net = awake(subject)
        for layer in layers_of(subject, net):
            yield examine(subject.name, net, subject.images(), layer)
    for name, (build, layers) in OTHERS.items():
        net = build()
        yield from (examine(name, net, pictures(), layer) for layer in layers)
    net = detector()
    for layer in DETECTOR_LAYERS:
        yield examine_detector(net, layer)


def table(found: Sequence[Found]) -> str:
    """Markdown."""
    exact = [one for one in found if one.way == "tail"]
    head = f"""# Running from a layer on: networks and layers

{len(exact)} of {len(found)} layers in {len({one.network for one in found})} networks run from
the layer on; the others run the whole model and say so. Largest difference of a score from the
whole model's, for rows that are scaled, cut or noisy, in float32:
{max(one.off for one in found):.0e} of the score's scale (the sum of the absolute terms it is
added up from). Random weights, two images, rows of both in mixed order, three at a time. "Share"
is the arithmetic of one row as part of a whole forward pass.

Repeat with `python -m tests.integration.test_tail_zoo docs/measured/tail-zoo.md`.

| network | layer | way | share | changed scores moved by | largest difference |
| --- | --- | --- | --- | --- | --- |
"""
    lines = (
        f"| {one.network} | `{one.layer}` | {one.way} | {one.share:.3f} | {one.moved:.1e} | "
        f"{one.off:.0e} |"
        for one in found
    )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    seen = []
    for one in everything():
        print(one, flush=True)
        seen.append(one)
        Path(sys.argv[1]).write_text(table(seen), "utf-8")
