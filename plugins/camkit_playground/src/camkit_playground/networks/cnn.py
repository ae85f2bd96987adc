"""A small convolutional network with global average pooling and one linear layer.

Behind `layer3` everything is linear, so Grad-CAM, HiResCAM and XGrad-CAM coincide there.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from camkit_playground.duo.classes import CLASS_NAMES


def _stage(inside: int, *units: tuple[int, int, int]) -> nn.Sequential:
    """Convolution, batch normalization and ReLU for every (channels, kernel, stride)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (outside, kernel, stride) in enumerate(units, 1):
        parts[f"conv{number}"] = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        parts[f"norm{number}"] = nn.BatchNorm2d(outside)
        parts[f"relu{number}"] = nn.ReLU()
        inside = outside
    return nn.Sequential(parts)


class CNN(nn.Module):
    """`[N, 3, H, W]` to one logit per class `[N, 8]`; at 64 pixels `layer3` is 16 x 16.

    Three spatial convolutions only: a position of `layer3` sees 15 x 15 pixels, less than most
    objects, so what it contributes to a logit it found close by. Each logit is a yes or no of its
    own (binary cross entropy), whatever else is in the picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _stage(3, (32, 3, 2))
        self.layer1 = _stage(32, (48, 3, 2), (48, 1, 1))
        self.layer2 = _stage(48, (96, 3, 1), (96, 1, 1))
        self.layer3 = _stage(96, (128, 1, 1), (128, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, len(CLASS_NAMES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        logits: Tensor = self.fc(torch.flatten(self.pool(x), 1))
        return logits
