"""The methods under test, by what they read."""

from __future__ import annotations

from typing import Any

import pytest

from gradient_proof.networks import DeepNet, GapNet, Split

WITH_GRADIENTS = [
    *("cam", "gradcam", "gradcampp", "xgradcam", "hirescam", "gradcamelementwise", "layercam"),
    *("shapleycam", "segeigencam", "eigengradcam", "ssgradcam"),
]
AT_A_LAYER = [
    *WITH_GRADIENTS,
    *("eigencam", "kpcacam", "fem", "lafam", "dummycam", "fakecam", "random"),
]
ALL = [*AT_A_LAYER, "gaussian", "sobel"]
SEEDED = ["random"]
UNSEEDED = [name for name in ALL if name not in SEEDED]

EVERY = pytest.mark.parametrize("name", ALL)
EVERY_UNSEEDED = pytest.mark.parametrize("name", UNSEEDED)


def network(name: str, **options: Any) -> Split:
    """A network on which the method is defined and its map is not degenerate."""
    return GapNet(seed=1, **options) if name == "cam" else DeepNet(seed=1, **options)


def with_logits(net: Split, scale: float = 1.0, shift: float = 0.0) -> Split:
    """The network, with logits times `scale` plus `shift`."""
    net.fc.weight.data *= scale
    net.fc.bias.data = net.fc.bias.data * scale + shift
    return net
