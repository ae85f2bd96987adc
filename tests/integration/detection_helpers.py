"""torchvision's detectors with seeded random weights, small enough to run in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

SIZE = (80, 120)
RANDOM: dict[str, Any] = {"weights": None, "weights_backbone": None}
SMALL: dict[str, Any] = {"min_size": 96, "max_size": 128}
TWO_STAGES: dict[str, Any] = {
    **RANDOM,
    **SMALL,
    "box_score_thresh": 0.0,
    "rpn_pre_nms_top_n_test": 40,
    "rpn_post_nms_top_n_test": 20,
    "box_detections_per_img": 10,
}
ONE_STAGE: dict[str, Any] = {
    **RANDOM,
    "score_thresh": 0.0,
    "detections_per_img": 10,
    "topk_candidates": 50,
}

DETECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (TWO_STAGES, "backbone.body.16"),
    "fasterrcnn_resnet50_fpn": (TWO_STAGES, "backbone.body.layer4"),
    "maskrcnn_resnet50_fpn": (TWO_STAGES, "backbone.body.layer4"),
    "keypointrcnn_resnet50_fpn": (TWO_STAGES, "backbone.body.layer4"),
    "retinanet_resnet50_fpn": ({**ONE_STAGE, **SMALL}, "backbone.body.layer4"),
    "fcos_resnet50_fpn": ({**ONE_STAGE, **SMALL}, "backbone.body.layer4"),
    "ssdlite320_mobilenet_v3_large": (ONE_STAGE, "backbone.features.0"),
    "ssd300_vgg16": (ONE_STAGE, "backbone.features"),
}
"""Name -> how to build it, and the layer that every detection is computed from."""


def built(name: str, seed: int = 1, **options: Any) -> nn.Module:
    """A detector whose weights are the same in every run; the global generator is put back."""
    return seeded(lambda: detection.__dict__[name](**{**DETECTORS[name][0], **options}), seed)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `make` builds, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def images(n: int = 2, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """`[n, 3, H, W]` in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, *size, generator=generator)


class Stem(nn.Sequential):
    """Two convolutions; as `backbone` of a detector it has one level."""

    out_channels = 6

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 5, 5, 4, 2),
            nn.ReLU(),
            nn.Conv2d(5, self.out_channels, 3, 2, 1),
            nn.ReLU(),
        )


def tiny(seed: int = 2) -> nn.Module:
    """Faster R-CNN of six channels, in float64, that reports everything it hesitates about."""

    def make() -> nn.Module:
        return detection.FasterRCNN(
            Stem(),
            rpn_anchor_generator=AnchorGenerator(((24, 48),), ((0.5, 1.0, 2.0),)),
            box_roi_pool=MultiScaleRoIAlign(["0"], 5, 2),
            box_head=detection.faster_rcnn.TwoMLPHead(6 * 25, 16),
            box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 4),
            rpn_head=detection.rpn.RPNHead(6, 6),
            **{name: TWO_STAGES[name] for name in TWO_STAGES if not name.startswith("weights")},
        )

    net = seeded(make, seed).double()
    # Small random weights would give all boxes nearly the same score, whatever the image.
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.data *= 3
    return net
