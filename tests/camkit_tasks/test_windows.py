"""Windows go back to their places: by loops, in MaxViT, and in blocks that say how they cut."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from tasks_proof.layouts import REGISTRY, found_for, image, output_of, seeded
from torch import Tensor, nn
from torchvision.models import MaxVit

from camkit_core import ChannelsFirst, LayoutError
from camkit_tasks import Windows
from camkit_tasks.reshapes.find import find_reshape


def cut(picture: Tensor, window, shift=(0, 0), padded="after", spread=False) -> Tensor:
    """`[N, H, W, C]` to `[N * windows, positions, C]`, position by position."""
    height, width = picture.shape[1:3]
    full = [math.ceil(s / w) * w for s, w in zip((height, width), window, strict=True)]
    pad = (0, 0, 0, full[1] - width, 0, full[0] - height)
    back = [-s for s in shift]
    if padded == "after":
        canvas = nn.functional.pad(picture.roll(back, (1, 2)), pad)
    else:
        canvas = nn.functional.pad(picture, pad).roll(back, (1, 2))
    counts = [f // w for f, w in zip(full, window, strict=True)]
    rows = []
    for one, i, j in itertools.product(range(len(picture)), *map(range, counts)):
        inside = itertools.product(*map(range, window))
        if spread:
            places = [(a * counts[0] + i, b * counts[1] + j) for a, b in inside]
        else:
            places = [(i * window[0] + a, j * window[1] + b) for a, b in inside]
        rows.append(torch.stack([canvas[one, row, column] for row, column in places]))
    return torch.stack(rows)


CASES = [
    {"window": (4, 4), "grid": (8, 8)},
    {"window": (2, 4), "grid": (4, 12)},
    {"window": (4, 4), "grid": (8, 12), "shift": (2, 2)},
    {"window": (4, 4), "grid": (6, 9), "shift": (2, 1), "padded": "after"},
    {"window": (4, 4), "grid": (6, 9), "shift": (2, 1), "padded": "before"},
    {"window": (4, 4), "grid": (5, 8)},
    {"window": (2, 3), "grid": (8, 9), "spread": True},
]


def name(case) -> str:
    return " ".join(f"{key}={value}" for key, value in case.items())


@pytest.mark.parametrize("case", CASES, ids=name)
def test_every_position_goes_back_to_its_place(case):
    picture = torch.randn(2, *case["grid"], 5, dtype=torch.float64)
    words = {key: value for key, value in case.items() if key != "grid"}
    windows, reshape = cut(picture, **words), Windows(**case)
    assert torch.equal(reshape.to_spatial(windows), picture.movedim(-1, 1))
    side = windows.unflatten(1, case["window"])
    assert torch.equal(reshape.to_spatial(side), picture.movedim(-1, 1))
    each = windows.unflatten(0, (2, -1))
    assert torch.equal(reshape.to_spatial(each), picture.movedim(-1, 1))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_maps_are_cut_the_same_way_and_padding_stays(case):
    reshape = Windows(**case)
    like = cut(torch.zeros(2, *case["grid"], 5), **{k: v for k, v in case.items() if k != "grid"})
    like = torch.randn(like.shape)
    maps = torch.randn(2, 5, *case["grid"])
    back = reshape.from_spatial(maps, like)
    assert back.shape == like.shape
    assert torch.equal(reshape.to_spatial(back), maps)
    assert torch.equal(reshape.from_spatial(reshape.to_spatial(like), like), like)
    changed = (back != like).flatten(1).sum()
    assert changed == maps.numel(), "only what the picture shows has changed"


@pytest.mark.parametrize("shape", [(9, 16, 3), (8, 15, 3), (8, 3, 4, 3)])
def test_what_is_not_cut_like_this_is_refused_with_the_sums(shape):
    reshape = Windows(window="4x4", grid="8x8")
    with pytest.raises(LayoutError, match=r"8x8 in windows of 4x4 is N x 4 \(2x2\) windows of 16"):
        reshape.to_spatial(torch.zeros(shape))


def test_maps_of_another_size_are_refused():
    with pytest.raises(LayoutError, match=r"\[1, 3, 8, 9\] do not fit windows \[4, 16, 3\]"):
        Windows(window=(4, 4), grid=(8, 8)).from_spatial(
            torch.zeros(1, 3, 8, 9), torch.zeros(4, 16, 3)
        )


@pytest.mark.parametrize("wrong", [{"window": "4by4"}, {"shift": "-1x0"}, {"roll": 1}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        Windows(**{"window": "4x4", "grid": "8x8", **wrong})


def test_by_name():
    reshape = REGISTRY.resolve("reshape", "windows")(window="4x4", grid="8x8", shift="2x2")
    assert reshape == Windows(window=(4, 4), grid=(8, 8), shift=(2, 2))


# --- torchvision's MaxViT -------------------------------------------------------------------------


def maxvit() -> nn.Module:
    return seeded(
        partial(
            MaxVit,
            input_size=(64, 64),
            stem_channels=16,
            partition_size=4,
            block_channels=[16],
            block_layers=[1],
            head_dim=8,
            stochastic_depth_prob=0.0,
            num_classes=5,
        )
    )


@pytest.mark.parametrize("kind", ["window_attention", "grid_attention"])
def test_partitions_of_maxvit(kind):
    """Before attention the windows are the input, cut; behind it they make the output."""
    model, x = maxvit(), image(64, 64)
    path = f"blocks.0.layers.0.layers.{kind}"
    entered: list[Tensor] = []
    model.get_submodule(path).register_forward_pre_hook(lambda m, args: entered.append(args[0]))
    output = output_of(model, path, x)
    for step in ("partition_op", "partition_swap"):
        reshape = found_for(model, f"{path}.{step}", x)
        windows = output_of(model, f"{path}.{step}", x)
        assert torch.equal(reshape.to_spatial(windows), entered[0]), step
    for step in ("attn_layer", "attn_layer.0", "mlp_layer", "departition_swap"):
        assert isinstance(found_for(model, f"{path}.{step}", x), Windows), step
    swapped = output_of(model, f"{path}.departition_swap", x)
    reshape = found_for(model, f"{path}.departition_swap", x)
    assert torch.equal(reshape.to_spatial(swapped), output)
    assert found_for(model, f"{path}.departition_op", x) == ChannelsFirst()


# --- blocks that say how they cut -----------------------------------------------------------------


class Shifted(nn.Module):
    """A block of an unknown family, with the attributes that such blocks have."""

    def __init__(self, shift: int, window: int = 4) -> None:
        super().__init__()
        self.window_size, self.shift_size = (window, window), (shift, shift)
        self.inside, self.whole = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.inside(cut(x, self.window_size, self.shift_size))
        return self.whole(x)


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.cut(x).movedim(1, -1)).mean((1, 2))


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (40, 28)])
def test_windows_of_a_block_that_says_how_it_cuts(size):
    model, x = seeded(partial(Net, Shifted(0), Shifted(2))), image(*size)
    for block, shift in ((0, ()), (1, (2, 2))):
        found = found_for(model, f"blocks.{block}.inside", x)
        grid = (size[0] // 4, size[1] // 4)
        assert found == Windows(window=(4, 4), grid=grid, shift=shift)
        whole = output_of(model, f"blocks.{block}.whole", x)
        inside = output_of(model, f"blocks.{block}.inside", x)
        assert torch.equal(found.to_spatial(inside), whole.movedim(-1, 1))


def test_a_picture_of_one_window_is_not_shifted():
    """Such blocks set their shift to zero where the picture is no larger than the window."""
    model = seeded(partial(Net, Shifted(2)))
    model.blocks[0].shift_size = (2, 2)
    windows = torch.zeros(4, 16, 6)  # 4 x 8: two windows side by side, for two images
    found = find_reshape(model, "blocks.0.inside", nn.Identity(), windows, image(16, 32))
    assert found == Windows(window=(4, 4), grid=(4, 8), shift=(0, 2))


def test_grids_that_fit_equally_well_are_an_error_that_lists_them():
    model = seeded(partial(Net, Shifted(0)))
    windows = torch.zeros(2, 16, 6)  # of one image: 8 x 4 or, halved with padding, 5 x 2
    with pytest.raises(LayoutError, match=r"picture of 8x4 or of .*say reshape='windows:"):
        find_reshape(model, "blocks.0.inside", nn.Identity(), windows, image(35, 16, 1))


def test_windows_of_an_unknown_block_are_refused_with_what_they_may_be():
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.LayerNorm(6)

        def forward(self, x: Tensor) -> Tensor:
            self.inside(cut(x, (4, 4)))
            return x

    from camkit_core.reshapes import find_reshape as of_core

    model, x = seeded(partial(Net, Unknown())), image()
    output = output_of(model, "blocks.0.inside", x)
    with pytest.raises(LayoutError, match=r"\[8, 16, 6\] for 2 image\(s\): 8 = 2 x 4 rows may be"):
        of_core(REGISTRY, model, "blocks.0.inside", model.blocks[0].inside, output, x)


# --- MobileViTv2: patches unfolded with channels first --------------------------------------------


def unfolded(picture: Tensor, patch: tuple[int, int]) -> Tensor:
    """`[N, C, H, W]` to `[N, C, positions, patches]`."""
    flat = nn.functional.unfold(picture, patch, stride=patch)
    return flat.unflatten(1, (picture.shape[1], -1))


@pytest.mark.parametrize(("patch", "grid"), [((2, 2), (4, 4)), ((2, 3), (8, 9)), ((4, 2), (4, 6))])
def test_unfolded_patches_go_back_to_their_places(patch, grid):
    picture = torch.randn(2, 5, *grid, dtype=torch.float64)
    reshape = Windows(window=patch, grid=grid, channels="first")
    patches = unfolded(picture, patch)
    assert torch.equal(reshape.to_spatial(patches), picture)
    other = torch.randn_like(picture)
    back = reshape.from_spatial(other, patches)
    assert torch.equal(back, unfolded(other, patch))
    with pytest.raises(LayoutError, match=r"channels=first are \[N, C, positions, windows\]"):
        reshape.to_spatial(patches[0])


class MobileVitV2Block(nn.Module):
    """Built and named like timm's."""

    def __init__(self, patch: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.patch_size = patch
        self.conv_1x1 = nn.Conv2d(6, 6, 1)
        self.transformer = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Sequential(nn.Conv2d(6, 6, 1)))
        self.norm = nn.GroupNorm(1, 6)
        self.conv_proj = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-s // p) * p for s, p in zip(x.shape[2:], self.patch_size, strict=True))
        z = nn.functional.interpolate(self.conv_1x1(x), (height, width))
        z = self.norm(self.transformer(unfolded(z, self.patch_size)))
        folded = nn.functional.fold(
            z.flatten(1, 2), (height, width), self.patch_size, stride=self.patch_size
        )
        return self.conv_proj(folded)


class Patched(nn.Module):
    def __init__(self, patch: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.cut, self.block = nn.Conv2d(3, 6, 8, 8), MobileVitV2Block(patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.cut(x)).mean((2, 3))


INSIDE = ("transformer", "transformer.0", "transformer.1", "transformer.1.0", "norm")


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 80), (40, 56)], ids=str)
def test_patches_of_mobilevitv2(size):
    """At 32 x 32 they are `[N, 6, 4, 4]`, which looks like a picture and is none."""
    model, x = seeded(Patched), image(*size)
    entered: list[Tensor] = []
    model.block.conv_proj.register_forward_pre_hook(lambda m, args: entered.append(args[0]))
    for inside in INSIDE:
        found = found_for(model, f"block.{inside}", x)
        assert isinstance(found, Windows), inside
    assert torch.equal(found.to_spatial(output_of(model, "block.norm", x)), entered[0])
    for outside in ("conv_1x1", "conv_proj"):
        assert found_for(model, f"block.{outside}", x) == ChannelsFirst()


def test_patches_that_no_stride_makes_are_refused_with_how_to_say_it():
    model, x = seeded(Patched), image(64, 64)
    layer, odd = model.block.norm, torch.zeros(2, 6, 4, 15)
    with pytest.raises(LayoutError, match=r"15 patches of 2x2 .*no picture known here; .*grid=HxW"):
        find_reshape(model, "block.norm", layer, odd, x)
