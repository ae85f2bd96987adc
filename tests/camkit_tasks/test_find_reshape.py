"""The reshape found for a layer puts activations where the photo made them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, MaxVit, SwinTransformer, VisionTransformer, resnet18
from torchvision.models.convnext import CNBlockConfig

from camkit_core import ChannelsFirst, ChannelsLast
from camkit_tasks import Tokens
from camkit_tasks.reshapes.find import find_reshape


def output_of(model: nn.Module, name: str, image: Tensor) -> Tensor:
    kept: list[Tensor] = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        model.eval()(image)
    handle.remove()
    found = kept[0]
    return next(part for part in found if part is not None) if isinstance(found, tuple) else found


def found_for(model: nn.Module, name: str, image: Tensor):
    layer = model.get_submodule(name)
    return find_reshape(model, name, layer, output_of(model, name, image), image)


def where_it_changes(model: nn.Module, name: str, image: Tensor, spot: tuple[int, int]):
    """Relative position of the largest change of the map when the image changes at `spot`."""
    changed = image.clone()
    rows, columns = image.shape[2] // 8, image.shape[3] // 8
    top, left = spot[0] * rows, spot[1] * columns
    changed[:, :, top : top + rows, left : left + columns] += 5.0
    reshape = found_for(model, name, image)
    maps = [reshape.to_spatial(output_of(model, name, x)) for x in (image, changed)]
    change = (maps[1] - maps[0]).abs().sum(1)[0]
    assert change.max() > 1e-3
    row, column = divmod(int(change.argmax()), change.shape[1])
    return (row + 0.5) / change.shape[0], (column + 0.5) / change.shape[1]


def assert_finds_the_spot(model: nn.Module, name: str, image: Tensor) -> None:
    for spot in ((1, 6), (6, 2)):
        row, column = where_it_changes(model, name, image, spot)
        assert abs(row - (spot[0] + 0.5) / 8) < 0.13, (name, spot, row)
        assert abs(column - (spot[1] + 0.5) / 8) < 0.13, (name, spot, column)


def image(height: int = 32, width: int = 32, images: int = 2) -> Tensor:
    return torch.randn(images, 3, height, width, generator=torch.Generator().manual_seed(1))


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build().eval()


# -- vision transformers -------------------------------------------------------------------------


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


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm1(x))


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


def test_more_tokens_than_declared_are_not_guessed_at():
    model = seeded(partial(Declared, 1))
    tokens = torch.zeros(2, 19, 10)  # 3 + 2 x 8
    assert find_reshape(model, "blocks", model.blocks, tokens, image(16, 64)) is None


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


# -- maps ------------------------------------------------------------------------------------------


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
    assert found_for(model, "1", image()) is None  # [N, 8, 8, 8] reads both ways


def test_what_is_not_a_tensor_or_not_an_image_is_none():
    model = vit()
    assert find_reshape(model, "encoder", model.encoder, (None,), image()) is None
    assert (
        find_reshape(model, "encoder", model.encoder, torch.zeros(2, 5, 5), torch.zeros(2, 5))
        is None
    )
