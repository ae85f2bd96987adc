"""Tokens: the reshape found for a layer puts activations where the photo made them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tasks_proof.layouts import (
    REGISTRY,
    Block,
    assert_finds_the_spot,
    found_for,
    image,
    output_of,
    seeded,
)
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18

from camkit_core import ChannelsFirst, LayoutError
from camkit_core.reshapes import find_reshape as of_core
from camkit_tasks import Tokens
from camkit_tasks.reshapes.find import find_reshape


def vit(hidden: int = 12, size: int = 32) -> VisionTransformer:
    return seeded(
        partial(
            VisionTransformer,
            image_size=size,
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=hidden,
            mlp_dim=24,
            num_classes=5,
        )
    )


@pytest.mark.parametrize("hidden", [12, 64, 66])  # 64 and 66: channels = positions, = tokens + 1
def test_every_layer_of_a_torchvision_vit_is_read_as_tokens(hidden):
    model = vit(hidden)
    for name in (
        "encoder.dropout",
        "encoder.layers",
        "encoder.layers.encoder_layer_0",
        "encoder.layers.encoder_layer_1.ln_1",
        "encoder.layers.encoder_layer_1.self_attention",
        "encoder.layers.encoder_layer_1.mlp.1",
        "encoder.ln",
        "encoder",
    ):
        assert found_for(model, name, image()) == Tokens(prefix=1, grid=(8, 8)), name
    assert found_for(model, "conv_proj", image()) == ChannelsFirst()
    assert_finds_the_spot(model, "encoder.dropout", image())
    assert_finds_the_spot(model, "encoder.layers.encoder_layer_0.ln_1", image())


def test_a_vit_inside_another_module_is_read_too():
    model = nn.Sequential(nn.Identity(), nn.ModuleDict({"net": vit()})["net"])
    name = "1.encoder.layers.encoder_layer_1.ln_1"
    assert found_for(model, name, image()) == Tokens(prefix=1, grid=(8, 8))


def test_a_vit_that_sees_another_size_than_the_image_is_not_guessed_at():
    model = nn.Sequential(nn.Upsample(size=(32, 32)), vit())
    assert found_for(model, "1.encoder.ln", image(64, 48)) is None


def test_tokens_that_come_with_their_attention_weights_are_read_as_tokens():
    model, x = vit(), image()
    name = "encoder.layers.encoder_layer_1"
    layer, tokens = model.get_submodule(name), output_of(model, name, x)
    logits = tokens[:, None] @ tokens[:, None].mT
    beside = of_core(REGISTRY, model, name, layer, (tokens, logits.softmax(-1), None), x)
    assert torch.equal(
        beside.to_spatial((tokens, logits)), Tokens(prefix=1, grid=(8, 8)).to_spatial(tokens)
    )
    for other in (logits, logits.softmax(-1)[:, :, 1:, 1:]):
        with pytest.raises(LayoutError, match="2 floating tensors; give reshape="):
            of_core(REGISTRY, model, name, layer, (tokens, other), x)


def test_vectors_and_outputs_of_another_batch_are_not_pictures():
    model = vit()
    assert found_for(model, "heads", image()) is None
    windows = torch.zeros(8, 65, 12)  # four windows per image
    assert find_reshape(model, "encoder.ln", model.encoder.ln, windows, image()) is None


class Patches(nn.Module):
    """Cuts patches; declares their size if asked to."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch_size = (patch, patch)
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Declared(nn.Module):
    """Built like timm's: `patch_embed.patch_size`, `num_prefix_tokens`, any input size."""

    def __init__(self, prefix: int, width: int = 10) -> None:
        super().__init__()
        self.patch_embed = Patches(8, width)
        self.num_prefix_tokens = prefix
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.blocks = nn.Sequential(Block(width), Block(width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], dim=1)
        return self.blocks(tokens)[:, 0] if self.num_prefix_tokens else self.blocks(tokens).mean(1)


class Undeclared(nn.Module):
    """A transformer that says nothing: the patch size is in its first convolution."""

    def __init__(self, prefix: int, width: int = 10) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, width, (8, 4), (8, 4))
        self.extra = nn.Parameter(torch.randn(1, prefix, width))
        self.flat = nn.Flatten(2)
        self.blocks = nn.ModuleList([Block(width)])
        self.plain = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.flat(self.cut(x)).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), tokens], dim=1)
        return self.plain(self.blocks[0](tokens)).mean(1)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_declared_prefix_and_patch_size(prefix):
    model = seeded(partial(Declared, prefix))
    wide = image(16, 64)  # 2 x 8 patches, which a square reading would scramble into 4 x 4
    assert found_for(model, "blocks.1.norm1", wide) == Tokens(prefix=prefix, grid=(2, 8))
    assert found_for(model, "patch_embed", wide) == Tokens(prefix=0, grid=(2, 8))
    assert_finds_the_spot(model, "blocks.0", image(64, 64))


def test_more_tokens_than_declared_are_an_error_with_the_sums():
    model = seeded(partial(Declared, 1))
    sums = r"19 = 3 \+ 2·8, but the network's patches make 16 = 0 \+ 2·8 or 17 = 1 \+ 2·8; say "
    with pytest.raises(LayoutError, match=sums + r".*'tokens:prefix=3,grid=2x8'"):
        find_reshape(model, "blocks", model.blocks, torch.zeros(2, 19, 10), image(16, 64))
    with pytest.raises(LayoutError, match=r"9 is less than 2·8, but the network's patches"):
        find_reshape(model, "blocks", model.blocks, torch.zeros(2, 9, 10), image(16, 64))


def test_the_grid_that_comes_with_the_tokens_is_believed():
    model, tokens = seeded(partial(Undeclared, 1)), torch.zeros(2, 1 + 3 * 5, 10)
    for output in ((tokens, (3, 5)), (tokens, 3, 5), [tokens, [3, 5]]):
        found = find_reshape(model, "plain", model.plain, output, image(16, 64))
        assert found == Tokens(prefix=1, grid=(3, 5))
    for output in ((tokens, (5, 5)), (tokens, (3, 5, 1)), (tokens, True, 5)):
        assert find_reshape(model, "plain", model.plain, output, image(16, 64)) is None


class Stages(nn.Module):
    """Overlapping patches, halved between stages, tokens in each; a class token in the last."""

    def __init__(self, register: bool = False) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 7, 4, 3)
        self.norm = nn.LayerNorm(6)
        self.halve = nn.Conv2d(6, 6, 3, 2, 1)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        if register:
            self.register_tokens = nn.Parameter(torch.randn(1, 4, 6))
        self.last = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cut(x)
        z = self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        z = self.halve(z).flatten(2).transpose(1, 2)
        extra = [self.cls_token, *([self.register_tokens] if len(self._parameters) > 1 else [])]
        z = torch.cat([one.expand(len(z), -1, -1) for one in extra] + [z], 1)
        return self.last(z)[:, 0]


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (44, 28)])
def test_grids_of_later_stages_follow_the_strides(size):
    model, x = seeded(Stages), image(*size)
    first = tuple(-(-side // 4) for side in size)
    assert found_for(model, "norm", x) == Tokens(prefix=0, grid=first)
    second = tuple(-(-side // 2) for side in first)
    assert found_for(model, "last", x) == Tokens(prefix=1, grid=second)
    registers = seeded(partial(Stages, register=True))
    assert found_for(registers, "last", x) == Tokens(prefix=5, grid=second)


def test_two_grids_that_close_are_an_error_with_both_readings():
    """5 = 1 + 2 x 2 of the second stage, or the four registers before one patch of the fourth."""
    model = seeded(partial(Stages, register=True))
    sums = r"read as 5 = 1 \+ 2·2 and as 5 = 4 \+ 1·1; say reshape='tokens:prefix=1,grid=2x2' or"
    with pytest.raises(LayoutError, match=sums):
        find_reshape(model, "last", model.last, torch.zeros(2, 5, 6), image(16, 16))


def test_square_grids_are_never_assumed():
    """7 x 28 patches are as many as 14 x 14."""
    model = nn.Sequential(nn.Conv2d(3, 6, 16, 16), nn.LayerNorm(6))
    found = find_reshape(model, "1", model[1], torch.zeros(1, 197, 6), image(112, 448, 1))
    assert found == Tokens(prefix=1, grid=(7, 28))


def test_padding_networks_round_the_grid_up():
    model = seeded(partial(Declared, 1))
    model.patch_embed.dynamic_img_pad = True
    tokens = torch.zeros(2, 1 + 3 * 8, 10)
    found = find_reshape(model, "blocks", model.blocks, tokens, image(17, 64))
    assert found == Tokens(prefix=1, grid=(3, 8))


@pytest.mark.parametrize("prefix", [0, 1, 16])
def test_patch_size_from_the_first_convolution(prefix):
    model = seeded(partial(Undeclared, prefix))
    wide = image(16, 64)
    assert found_for(model, "blocks.0.norm1", wide) == Tokens(prefix=prefix, grid=(2, 16))
    assert found_for(model, "plain", wide) == Tokens(prefix=prefix, grid=(2, 16))
    assert found_for(model, "flat", wide) is None  # [N, C, T]: not tokens
    assert_finds_the_spot(model, "blocks.0", image(64, 64))


def test_seventeen_prefix_tokens_are_too_many_to_believe():
    model = seeded(partial(Undeclared, 17))
    assert found_for(model, "blocks.0", image(16, 64)) is None


def test_where_both_axes_add_up_a_module_must_say_which():
    model = seeded(partial(Undeclared, 1, width=34))  # 1 + 2 x 16 = 33 tokens, 34 = 2 + 32
    assert found_for(model, "blocks.0.norm1", image(16, 64)) == Tokens(prefix=1, grid=(2, 16))
    assert found_for(model, "plain", image(16, 64)) is None


def test_overlapping_convolutions_cut_no_patches():
    tokens = torch.zeros(2, 1 + 16 * 16, 8)
    model = resnet18(num_classes=3)
    assert find_reshape(model, "fc", nn.LayerNorm(8), tokens, image(32, 32)) is None


def test_volumes_and_signals():
    volume = torch.zeros(2, 1, 8, 12, 16)
    model = nn.Sequential(nn.Conv3d(1, 6, 4, 4), nn.LayerNorm(6))
    found = find_reshape(model, "1", model[1], torch.zeros(2, 1 + 2 * 3 * 4, 6), volume)
    assert found == Tokens(prefix=1, grid=(2, 3, 4))
    signal = torch.zeros(2, 1, 40)
    model = nn.Sequential(nn.Conv1d(1, 6, 4, 4), nn.LayerNorm(6), nn.Identity())
    tokens = torch.zeros(2, 11, 6)
    assert find_reshape(model, "1", model[1], tokens, signal) == Tokens(prefix=1, grid=(10,))
    assert find_reshape(model, "2", model[2], tokens, signal) is None  # could be [N, C, L]


def test_tokens_in_an_order_of_their_own_are_refused_until_they_are_rows_again():
    """As in Hiera, which keeps for every block what is left to unroll and the grid."""
    model = seeded(partial(Declared, 0))
    model.reroll = nn.Identity()
    model.reroll.schedule = {0: ([(2, 2)], [4, 8]), 1: ([], [2, 4])}
    whole, halved = torch.zeros(2, 32, 10), torch.zeros(2, 8, 10)
    with pytest.raises(LayoutError, match=r"tokens \[2, 32, 10\] in an order of the network's own"):
        find_reshape(model, "blocks.0", model.blocks[0], whole, image(32, 64))
    found = find_reshape(model, "blocks.1", model.blocks[1], halved, image(32, 64))
    assert found == Tokens(prefix=0, grid=(2, 4))
