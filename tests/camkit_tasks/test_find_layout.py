"""Maps with channels first or last, told apart by shapes, modules and families."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tasks_proof.layouts import Block, assert_finds_the_spot, found_for, image, output_of, seeded
from torch import Tensor, nn
from torchvision.models import ConvNeXt, MaxVit, SwinTransformer, resnet18
from torchvision.models.convnext import CNBlockConfig

from camkit_core import ChannelsFirst, ChannelsLast
from camkit_tasks.reshapes.find import find_reshape


def swin(width: int = 16, patch: int = 2) -> SwinTransformer:
    return seeded(
        partial(
            SwinTransformer,
            patch_size=[patch, patch],
            embed_dim=width,
            depths=[1, 1],
            num_heads=[2, 2],
            window_size=[4, 4],
            stochastic_depth_prob=0.0,
            num_classes=5,
        )
    )


SWIN_LAST = (
    "features",
    "features.0",
    "features.1",
    "features.1.0",
    "features.1.0.norm1",
    "features.1.0.attn",
    "features.1.0.mlp",
    "features.1.0.mlp.1",
    "features.1.0.stochastic_depth",
    "features.2",
    "features.3.0",
    "norm",
)


@pytest.mark.parametrize("width", [16, 12, 32])  # 16 x 16 positions: 16 channels read both ways
def test_every_layer_of_a_torchvision_swin(width):
    model = swin(width)
    for name in SWIN_LAST:
        assert found_for(model, name, image()) == ChannelsLast(), name
    assert found_for(model, "features.0.0", image()) == ChannelsFirst()
    assert found_for(model, "permute", image()) == ChannelsFirst()
    assert found_for(model, "avgpool", image()) == ChannelsFirst()
    assert found_for(model, "flatten", image()) is None
    for name in ("features.0.0", "features.0", "features.1", "norm", "permute"):
        assert_finds_the_spot(model, name, image())


def test_swin_on_an_oblong_image():
    model = swin(16)
    for name in SWIN_LAST:
        assert found_for(model, name, image(32, 64)) == ChannelsLast(), name
    assert_finds_the_spot(model, "features.1", image(32, 64))


def test_convnext_blocks_return_channel_first_and_their_insides_channel_last():
    config = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
    model = seeded(partial(ConvNeXt, config, num_classes=5))
    picture = image(64, 64)  # 16 channels of 16 x 16
    for name in ("features.0", "features.1", "features.1.0", "features.1.0.block"):
        assert found_for(model, name, picture) == ChannelsFirst(), name
    for name in ("features.0", "features.1"):
        assert_finds_the_spot(model, name, picture)
    for name in ("features.1.0.block.1", "features.1.0.block.2"):
        assert found_for(model, name, picture) == ChannelsLast(), name
    permuted = output_of(model, "features.1.0.block.1", picture)
    depthwise = output_of(model, "features.1.0.block.0", picture)
    assert torch.equal(ChannelsLast().to_spatial(permuted), depthwise)


def test_maxvit_attention_returns_channel_first():
    model = seeded(
        partial(
            MaxVit,
            input_size=(64, 64),
            stem_channels=16,
            partition_size=4,
            block_channels=[16, 16],
            block_layers=[1, 1],
            head_dim=8,
            stochastic_depth_prob=0.0,
            num_classes=5,
        )
    )
    name = "blocks.0.layers.0.layers.window_attention"
    assert output_of(model, name, image(64, 64)).shape == (2, 16, 16, 16)
    assert found_for(model, name, image(64, 64)) == ChannelsFirst()
    assert_finds_the_spot(model, name, image(64, 64))


def test_convolutional_networks_are_left_to_core_or_read_as_channel_first():
    model = seeded(partial(resnet18, num_classes=5))
    for name in ("conv1", "bn1", "relu", "layer1", "layer2.0", "layer4", "avgpool"):
        assert found_for(model, name, image(64, 96)) in (None, ChannelsFirst()), name


def test_an_unknown_family_without_evidence_is_left_to_core():
    model = nn.Sequential(nn.Identity())
    square = torch.zeros(2, 8, 8, 8)
    assert find_reshape(model, "0", model[0], square, image()) is None
    last = torch.zeros(2, 8, 8, 24)
    assert find_reshape(model, "0", model[0], last, image()) is None


class Mixer(nn.Module):
    """Channel-last blocks of an unknown family."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 24, 4, 4)
        self.block = Block(24)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.cut(x).permute(0, 2, 3, 1)).mean((1, 2))


def test_shape_and_modules_together_make_an_unknown_family_channel_last():
    model = seeded(Mixer)
    for name in ("block", "block.norm1", "block.mlp", "block.mlp.0"):
        assert found_for(model, name, image()) == ChannelsLast(), name
    assert found_for(model, "cut", image()) == ChannelsFirst()
    assert_finds_the_spot(model, "block", image())


def test_a_norm_that_permutes_inside_says_nothing():
    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8))
    picture = image()  # [N, 8, 8, 8] reads both ways
    assert find_reshape(model, "1", model[1], output_of(model, "1", picture), picture) is None
    assert found_for(model, "1", picture) == ChannelsFirst(), "as the convolution before it"


def test_what_is_not_a_tensor_or_not_an_image_is_none():
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8))
    assert find_reshape(model, "1", model[1], (None,), image()) is None
    vector, tokens = torch.zeros(2, 5), torch.zeros(2, 5, 5)
    assert find_reshape(model, "1", model[1], tokens, vector) is None
