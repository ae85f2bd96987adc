"""Volumes: networks shaped like MONAI's DenseNet and U-Net, with its names and its oddities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from camkit import explain
from camkit_core import probe_layers

from .family_helpers import Family, check, each, pictures, seeded


class DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        self.layers.add_module("norm1", nn.BatchNorm3d(channels))
        self.layers.add_module("relu1", nn.ReLU(inplace=True))
        self.layers.add_module("conv1", nn.Conv3d(channels, growth, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


class DenseNet(nn.Module):
    """`features` and `class_layers`, activations in place, anisotropic strides."""

    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv3d(3, 8, 7, (1, 2, 2), 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm3d(8))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool3d(3, 2, 1))
        channels = 8
        for block in (1, 2):
            layers = [DenseLayer(channels + growth * i, growth) for i in range(2)]
            self.features.add_module(f"denseblock{block}", nn.Sequential(*layers))
            channels += 2 * growth
        self.features.add_module("norm5", nn.BatchNorm3d(channels))
        self.class_layers = nn.Sequential()
        self.class_layers.add_module("relu", nn.ReLU(inplace=True))
        self.class_layers.add_module("pool", nn.AdaptiveAvgPool3d(1))
        self.class_layers.add_module("flatten", nn.Flatten(1))
        self.class_layers.add_module("out", nn.Linear(channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.class_layers(self.features(x))


class Skip(nn.Module):
    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.submodule(x)], 1)


class Convolution(nn.Sequential):
    """Convolution, then normalization, dropout and activation together as `adn`."""

    def __init__(self, conv: nn.Module, channels: int, last: bool = False) -> None:
        super().__init__()
        self.add_module("conv", conv)
        if not last:
            adn = nn.Sequential()
            adn.add_module("N", nn.InstanceNorm3d(channels))
            adn.add_module("D", nn.Dropout(0.1))
            adn.add_module("A", nn.PReLU())
            self.add_module("adn", adn)


class UNet(nn.Module):
    """Everything nested in `model`: down, skip around what is below, up."""

    def __init__(self) -> None:
        super().__init__()
        bottom = Convolution(nn.Conv3d(8, 8, 3, padding=1), 8)
        inner = nn.Sequential(
            Convolution(nn.Conv3d(6, 8, 3, 2, 1), 8),
            Skip(bottom),
            Convolution(nn.ConvTranspose3d(16, 6, 3, 2, 1, 1), 6),
        )
        self.model = nn.Sequential(
            Convolution(nn.Conv3d(3, 6, 3, 2, 1), 6),
            Skip(inner),
            Convolution(nn.ConvTranspose3d(12, 4, 3, 2, 1, 1), 4, last=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


SIZE = (12, 24, 32)
VOLUMES = (
    Family("densenet", DenseNet, "features", size=SIZE),
    Family("unet", UNet, "model.1", size=SIZE),
)


@each(VOLUMES)
def test_volumes(family: Family) -> None:
    check(family)


def test_the_answer_of_a_unet_is_not_what_it_was_read_from() -> None:
    """The last layer with a picture is the answer itself; a person would not look there."""
    family = VOLUMES[1]
    report = probe_layers(family.model(), family.pictures())
    assert report.rows[-1].output == "[2, 4, 12, 24, 32]"
    assert report.default == "model.1"


@pytest.mark.parametrize("axes", [1, 3])
def test_a_pixel_of_a_volume_or_a_signal(axes: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
    build = lambda: nn.Sequential(conv(3, 6, 3, padding=1), nn.Tanh(), conv(6, 4, 3, padding=1))  # noqa: E731
    x, place = pictures(*SIZE[:axes])[:1], (2, *(4 for _ in range(axes)))
    found = explain(seeded(build, x), x, target=lambda out: out[place], layers="0")
    assert found.raw["0"][0].any(), "Grad-CAM of one place still weighs whole channels"
