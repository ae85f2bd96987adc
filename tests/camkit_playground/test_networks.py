"""The demo networks as models: specifications, preprocessing, files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from camkit_core import InputError, ModelError, Prepared, Registry, probe_layers
from camkit_playground.duo import CLASS_NAMES, batch, mosaic, scene
from camkit_playground.networks import CNN, NAMES, ViT, build, load
from camkit_playground.networks.preprocess import DemoPreprocess
from camkit_playground.networks.store import FOLDER, save, weights_file
from camkit_playground.train.cards import Record, card

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(allow=["camkit-playground"])


# -- specifications --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_network_by_its_name(registry: Registry, name: str) -> None:
    loaded = registry.load_model(f"demo:{name}")
    assert isinstance(loaded.model, ViT if name == "vit" else CNN)
    assert loaded.class_names == CLASS_NAMES
    assert loaded.weights.startswith("trained")
    assert not any(module.training for module in loaded.model.modules())
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())


def test_the_twin_says_that_it_cheats(registry: Registry) -> None:
    assert "cheat" in registry.load_model("demo:hans").notes[0]
    assert registry.load_model("demo:cnn").notes == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("demo:cnm", "no demo network 'cnm'; did you mean 'cnn'"),
        ("demo:", "no demo network ''"),
        ("demo:resnet50", "no demo network 'resnet50'; expected cnn, hans, vit"),
    ],
)
def test_unknown_networks_have_near_misses(registry: Registry, spec: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        registry.load_model(spec)


def test_other_families_are_left_to_others(registry: Registry) -> None:
    with pytest.raises(ModelError, match=r"expected `demo:cnn \| demo:hans \| demo:vit`"):
        registry.load_model("demos:cnn")


def test_loading_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    load("vit")
    assert torch.equal(torch.random.get_rng_state(), before)


# -- architecture ----------------------------------------------------------------------------------


def test_names_and_sizes() -> None:
    cnn, vit = build("cnn"), build("vit")
    assert [name for name, _ in cnn.named_children()] == [
        *("stem", "layer1", "layer2", "layer3", "pool", "fc")
    ]
    assert "blocks.3.norm1" in dict(vit.named_modules())
    sizes = {name: sum(p.numel() for p in build(name).parameters()) for name in NAMES}
    assert 90_000 < sizes["cnn"] == sizes["hans"] < 130_000
    assert 200_000 < sizes["vit"] < 260_000
    assert sum(weights_file(name).stat().st_size for name in NAMES) < 1_100_000


def test_the_default_layer_of_the_cnn_is_the_pooled_one(registry: Registry) -> None:
    images, _, _ = batch([scene(1)])
    report = probe_layers(registry.load_model("demo:cnn"), images, registry=registry)
    assert report.default == "layer3"
    (row,) = [row for row in report.rows if row.default]
    assert row.spatial == (16, 16)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_the_batch(name: str) -> None:
    images, _, _ = batch([scene(seed) for seed in range(5)])
    model = load(name)
    with torch.inference_mode():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert together.std() > 1
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


# -- preprocessing ---------------------------------------------------------------------------------


def test_a_scene_reaches_the_network_as_it_is() -> None:
    drawn = scene(4)
    torch.testing.assert_close(DemoPreprocess()(drawn.photo()).inputs, batch([drawn])[0])


def test_every_cell_of_a_mosaic_reaches_the_network_as_it_is() -> None:
    drawn = mosaic(4)
    torch.testing.assert_close(DemoPreprocess()(drawn.photo()).inputs, batch([drawn])[0])
    large = DemoPreprocess()(mosaic(4, size=128).photo())
    assert large.inputs.shape == (1, 3, 128, 128)
    assert large.pictures[0].geometry.scale == (2, 2)


def corner(prepared: Prepared, u: float, v: float) -> tuple[float, float]:
    geometry = prepared.pictures[0].geometry
    return (
        geometry.offset[0] + geometry.scale[0] * u,
        geometry.offset[1] + geometry.scale[1] * v,
    )


@EXAMPLES
@given(height=st.integers(10, 300), width=st.integers(10, 300))
def test_the_geometry_leads_back_to_the_photo(height: int, width: int) -> None:
    prepared = DemoPreprocess()(Image.new("RGB", (width, height), "gray"))
    assert prepared.inputs.shape == (1, 3, 64, 64)
    assert corner(prepared, 0, 0) == (0, 0)
    assert corner(prepared, 64, 64) == pytest.approx((height, width))
    assert prepared.pictures[0].geometry.source_size == (height, width)


@EXAMPLES
@given(
    height=st.integers(70, 400),
    width=st.integers(70, 400),
    y=st.floats(0.2, 0.8),
    x=st.floats(0.2, 0.8),
)
def test_a_bright_spot_is_found_where_it_was(height: int, width: int, y: float, x: float) -> None:
    photo = np.zeros((height, width, 3), np.uint8)
    row, column = int(y * height), int(x * width)
    reach_y, reach_x = height // 16, width // 16
    photo[row - reach_y : row + reach_y, column - reach_x : column + reach_x] = 255
    prepared = DemoPreprocess()(Image.fromarray(photo))
    light = prepared.inputs[0].mean(0) - prepared.inputs.min()
    at = torch.arange(64) + 0.5
    center = (
        float((light.sum(1) * at).sum() / light.sum()),
        float((light.sum(0) * at).sum() / light.sum()),
    )
    found = corner(prepared, *center)
    assert found[0] == pytest.approx(row, abs=height / 64)
    assert found[1] == pytest.approx(column, abs=width / 64)


def test_photos_are_turned_upright() -> None:
    photo = Image.new("RGB", (80, 40), "white")
    photo.getexif()[0x0112] = 6
    prepared = DemoPreprocess()(photo)
    assert prepared.pictures[0].photo.size == (40, 80)
    assert prepared.pictures[0].geometry.source_size == (80, 40)


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"expect a PIL image, got ndarray"),
        (Image.new("I;16", (64, 64)), "more than 8 bits"),
        (Image.new("F", (64, 64)), "more than 8 bits"),
    ],
)
def test_what_is_no_photo_is_refused(photo: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        DemoPreprocess()(photo)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_larger_renderings_get_the_same_answer(registry: Registry, name: str) -> None:
    loaded = registry.load_model(f"demo:{name}")
    with torch.inference_mode():
        small, large = (
            torch.cat(
                [
                    loaded.model(loaded.preprocess(scene(k, size=s).photo()).inputs)
                    for k in range(30)
                ]
            )
            for s in (64, 192)
        )
    assert ((small > 0) == (large > 0)).all(1).float().mean() > 0.85


# -- files -----------------------------------------------------------------------------------------


def test_weights_survive_the_file_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("vit").eval()
    save(model, "vit", tmp_path)
    again = load("vit", tmp_path)
    for (name, one), other in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one.half().float() if one.is_floating_point() else one, other), name


def test_damaged_and_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"demo_cnn.safetensors of demo:cnn cannot be read"):
        load("cnn", tmp_path)
    whole = weights_file("cnn").read_bytes()
    weights_file("cnn", tmp_path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="reinstall camkit-playground"):
        load("cnn", tmp_path)
    weights_file("vit", tmp_path).write_bytes(whole)
    with pytest.raises(ModelError, match="other tensors than expected"):
        load("vit", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_record_belongs_to_the_weights(name: str) -> None:
    record = json.loads((FOLDER / f"demo_{name}.json").read_text("utf-8"))
    assert record["sha256"] == hashlib.sha256(weights_file(name).read_bytes()).hexdigest()
    assert record["parameters"] == sum(p.numel() for p in build(name).parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_that_of_the_record(name: str) -> None:
    record = Record(**json.loads((FOLDER / f"demo_{name}.json").read_text("utf-8")))
    text = (FOLDER / f"demo_{name}.md").read_text("utf-8")
    assert text == card(record)
    figures = dict(re.findall(r"^\| (\w+) \| (\d\.\d{4}) \|$", text, re.M))
    assert figures == {key: f"{value:.4f}" for key, value in record.figures.items()}
    for part in ("Task", "Architecture", "Data", "Gates", "Training", "Limits", "License"):
        assert f"**{part}.**" in text


def test_networks_share_no_weights() -> None:
    cnn, twin = load("cnn"), load("hans")
    assert isinstance(cnn, nn.Module)
    assert not torch.equal(cnn.state_dict()["fc.weight"], twin.state_dict()["fc.weight"])
