"""Inside the attention of timm's and transformers' Swin: windows go back to their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

from camkit import explain
from camkit_core import LayoutError

from .parity_helpers import one_thread


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    with one_thread():
        yield


def seeded(build: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model: nn.Module = build()
    return model.eval()


def image(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))


def seen(model: nn.Module, x: Tensor, **hooks: str) -> dict[str, Tensor]:
    """What modules returned, or (names starting with `into`) were given."""
    kept: dict[str, Tensor] = {}
    handles = []
    for key, path in hooks.items():
        module = model.get_submodule(path)

        def note(*args: Any, key: str = key) -> None:
            found = args[1] if key.startswith("into") else args[2]
            kept[key] = found[0] if isinstance(found, tuple) else found

        register = (
            module.register_forward_pre_hook
            if key.startswith("into")
            else module.register_forward_hook
        )
        handles.append(register(note))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return kept


def activations(model: nn.Module, x: Tensor, layer: str, reshape: Any = None) -> Tensor:
    """The mean over channels at a layer, as camkit places it."""
    return explain(model, x, "lafam", layers=layer, reshape=reshape).raw[layer]


TIMM = {"img_size": (56, 84), "depths": (2, 2), "embed_dim": 16, "num_heads": (2, 2)}
SIZES = [(56, 84), (84, 84), (60, 100)]


def timm_swin(name: str, size: tuple[int, int]) -> nn.Module:
    words = {**TIMM, "img_size": size, "num_classes": 5}
    return seeded(lambda: timm.create_model(name, pretrained=False, window_size=7, **words))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("block", ["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.1"])
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_windows_of_timm(name: str, block: str, size: tuple[int, int]) -> None:
    """What enters the residual sum of the block is its attention, put together again."""
    model, x = timm_swin(name, size), image(*size)
    whole = "drop_path1" if name.startswith("swin_") else "norm1"
    into = "into" if name.startswith("swinv2") else "out"
    kept = seen(model, x, inside=f"{block}.attn", **{into: f"{block}.{whole}"})
    assert len(kept["inside"]) > len(x), "cut into windows"
    wanted = kept[into].mean(-1)
    torch.testing.assert_close(activations(model, x, f"{block}.attn"), wanted)


def hf_swin(size: tuple[int, int]) -> nn.Module:
    config = transformers.SwinConfig(
        image_size=size,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=7,
        drop_path_rate=0.0,
        num_labels=5,
    )
    return seeded(lambda: transformers.SwinForImageClassification(config))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_windows_of_transformers(place: tuple[int, int], size: tuple[int, int]) -> None:
    """The norm before attention, through a projection without weights of its own."""
    model, x = hf_swin(size), image(*size)
    names = dict(model.named_modules())
    stage, block = place
    path = next(
        name
        for name in names
        if name.endswith((f".{stage}.blocks.{block}", f"layers.{stage}.blocks.{block}"))
    )
    query = next(
        name
        for name, module in names.items()
        if name.startswith(path) and name.endswith(("query", "q_proj")) and _projects(module)
    )
    with torch.no_grad():
        names[query].weight.copy_(torch.eye(len(names[query].weight)))
        names[query].bias.zero_()
    kept = seen(model, x, inside=query, whole=f"{path}.layernorm_before")
    assert len(kept["inside"]) > len(x), "cut into windows"
    grid = tuple(-(-side // 4 // (stage + 1)) for side in size)
    wanted = kept["whole"].unflatten(1, grid).mean(-1)
    torch.testing.assert_close(activations(model, x, query), wanted)


def _projects(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def test_partitions_of_timm() -> None:
    """MaxViT's windows and its grid of positions far apart."""
    model = seeded(
        lambda: timm.create_model(
            "maxvit_rmlp_pico_rw_256", pretrained=False, img_size=64, num_classes=5
        )
    )
    x = image(64, 64)
    attentions = [
        name
        for name, module in model.named_modules()
        if hasattr(module, "partition_block") and name.startswith("stages.1")
    ]
    assert attentions
    for path in attentions[:2]:
        kept = seen(model, x, inside=f"{path}.attn", whole=f"{path}.drop_path1")
        if len(kept["inside"]) > len(x):
            wanted = kept["whole"].mean(-1)
            torch.testing.assert_close(activations(model, x, f"{path}.attn"), wanted)


def timm_mobilevitv2() -> tuple[nn.Module, list[str], str, str]:
    model = seeded(lambda: timm.create_model("mobilevitv2_050", pretrained=False, num_classes=5))
    blocks = [f"stages.{stage}.1" for stage in (2, 3, 4)]
    return model, blocks, "norm", "conv_proj"


def hf_mobilevitv2() -> tuple[nn.Module, list[str], str, str]:
    config = transformers.MobileViTV2Config(
        image_size=64, width_multiplier=0.25, n_attn_blocks=[1, 1, 1], num_labels=5
    )
    model = seeded(lambda: transformers.MobileViTV2ForImageClassification(config))
    names = (name for name, one in model.named_modules() if hasattr(one, "conv_1x1"))
    return model, list(names), "layernorm", "conv_projection"


PATCHED = [
    *((timm_mobilevitv2, size) for size in ((64, 64), (96, 128), (128, 160))),
    *((hf_mobilevitv2, size) for size in ((64, 64), (128, 192))),
]


@pytest.mark.parametrize(("build", "size"), PATCHED)
def test_unfolded_patches_of_mobilevitv2(build: Any, size: tuple[int, int]) -> None:
    """`[N, C, positions, patches]`, at 64 x 64 once `[N, C, 4, 4]`, as the block folds them."""
    (model, blocks, norm, folded), x = build(), image(*size)
    assert len(blocks) == 3
    for block in blocks:
        kept = seen(model, x, inside=f"{block}.{norm}", into=f"{block}.{folded}")
        assert kept["inside"].shape[2] == 4
        found = activations(model, x, f"{block}.{norm}")
        torch.testing.assert_close(found, kept["into"].mean(1))
        inner = [
            name
            for name, one in model.named_modules()
            if name.startswith(f"{block}.transformer.") and isinstance(one, nn.Conv2d)
        ]
        assert inner
        for name in (f"{block}.transformer", *inner):
            one = explain(model, x, "lafam", layers=name)
            assert one.provenance.reshape[name].startswith("Windows(window=(2, 2)"), name
            assert one.raw[name].shape == found.shape


def test_patches_that_leave_cells_out_are_refused() -> None:
    """transformers cuts 1 x 2 patches of 2 x 2 out of 3 x 4 cells; the rest of the map is zero."""
    model, blocks, norm, _ = hf_mobilevitv2()
    layer = f"{blocks[-1]}.{norm}"
    with pytest.raises(LayoutError, match=r"2 patches of 2x2 .* 3x4, not all of which is in them"):
        explain(model, image(96, 128), "lafam", layers=layer)
