"""Files: complete or absent, readable without pickle, and clear about where they come from."""

from __future__ import annotations

import enum
import io
import json
import os
import stat
import sys
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from camkit_core import Geometry, Issue, OptionError, Picture, UnsafeFileError
from camkit_render import JsonWriter, NpzWriter, Overlay, PngWriter, SafetensorsWriter
from camkit_render.record import plain, record, to_json

WRITERS = {
    ".png": PngWriter,
    ".npz": NpzWriter,
    ".safetensors": SafetensorsWriter,
    ".json": JsonWriter,
}


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def explanation(make, noise_photo):
    generator = torch.Generator().manual_seed(5)
    geometry = Geometry(
        source_size=(20, 30), input_size=(12, 12), scale=(1.5, 1.5), offset=(1.0, 6.0)
    )
    return make(
        torch.rand(1, 12, 12, generator=generator),
        raw={
            "layer4": torch.randn(1, 3, 3, generator=generator),
            "blocks.-2/norm1": torch.randn(1, 6, 6, generator=generator),
        },
        score=[12.25],
        classes=[281],
        labels=("tabby",),
        issues=[Issue("constant", "nearly constant", (0,), "layer4")],
        parameters={"variant": "paper", "eps": float("inf")},
        pictures=[Picture(noise_photo(20, 30), geometry)],
    )


def test_png_is_the_overlay_with_its_record(explanation, tmp_path):
    path = tmp_path / "cat.png"
    PngWriter()(explanation, path, alpha=0.8)
    with Image.open(path) as image:
        image.load()
        np.testing.assert_array_equal(
            np.array(image), np.array(Overlay()([explanation], alpha=0.8))
        )
        note = strict(image.text["camkit"])
    assert note["provenance"]["method"] == "gradcam"
    assert note == record(explanation)


@pytest.mark.parametrize("renderer", ["heatmap", "grid"])
def test_png_of_another_renderer(explanation, tmp_path, renderer):
    PngWriter()(explanation, tmp_path / "a.png", renderer=renderer)
    PngWriter()(explanation, tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.size != b.size


def test_npz_is_readable_without_pickle(explanation, tmp_path):
    path = tmp_path / "cat.npz"
    NpzWriter()(explanation, path)
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == {
            "maps",
            "raw/layer4",
            "raw/blocks.-2%2Fnorm1",
            "score",
            "provenance",
        }
        np.testing.assert_array_equal(archive["maps"], explanation.maps.numpy())
        np.testing.assert_array_equal(archive["raw/layer4"], explanation.raw["layer4"].numpy())
        assert archive["score"].tolist() == [12.25]
        assert strict(str(archive["provenance"])) == record(explanation)


def test_safetensors_keeps_dtype_and_resolution(make, tmp_path):
    raw = torch.randn(1, 3, 3).to(torch.bfloat16)
    explanation = make(torch.rand(1, 12, 12), raw=raw)
    path = tmp_path / "cat.safetensors"
    SafetensorsWriter()(explanation, path)
    with safe_open(path, framework="pt") as archive:
        assert torch.equal(archive.get_tensor("raw/layer4"), raw)
        assert torch.equal(archive.get_tensor("maps"), explanation.maps)
        assert strict(archive.metadata()["camkit"]) == record(explanation)


def test_json_says_what_a_reader_needs(explanation, tmp_path):
    path = tmp_path / "cat.json"
    JsonWriter()(explanation, path)
    found = strict(path.read_text(encoding="ascii"))
    assert found["format"] == "camkit-explanation"
    assert found["score"] == [12.25]
    assert found["target"]["classes"] == [281]
    assert found["target"]["labels"] == ["tabby"]
    assert found["issues"][0]["message"] == "nearly constant"
    assert found["provenance"]["parameters"] == {"variant": "paper", "eps": "Infinity"}
    assert found["geometry"][0]["offset"] == [1.0, 6.0]
    (ranges,) = found["images"]
    assert ranges["maps"]["max"] == float(explanation.maps.max())
    assert ranges["raw"]["layer4"]["min"] == float(explanation.raw["layer4"].min())


def test_json_has_no_nan(make, tmp_path):
    maps = torch.full((2, 4, 4), float("nan"))
    raw = torch.full((2, 2, 2), float("-inf"))
    explanation = make(maps, raw=raw, score=[float("nan"), float("inf")])
    JsonWriter()(explanation, tmp_path / "a.json")
    found = strict((tmp_path / "a.json").read_text())
    assert found["score"] == ["NaN", "Infinity"]
    assert found["images"][1]["raw"]["layer4"]["min"] == "-Infinity"
    assert [str(float(value)) for value in found["score"]] == ["nan", "inf"]


@pytest.mark.parametrize("suffix", WRITERS)
def test_same_explanation_same_bytes(explanation, tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        WRITERS[suffix]()(explanation, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_bytes_do_not_depend_on_the_order_of_parameters(make, tmp_path):
    for name, parameters in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        JsonWriter()(make(torch.ones(1, 2, 2), parameters=parameters), tmp_path / f"{name}.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_record_with_nan_is_never_written():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": float("nan")})


def test_parameters_of_any_kind_have_one_form():
    class Color(enum.Enum):
        RED = "red"

    given = MappingProxyType(
        {
            "enum": Color.RED,
            "tensor": torch.tensor([1.0, float("nan")]),
            "large": torch.zeros(10, 10),
            "set": {3, 1, 2},
            "function": test_parameters_of_any_kind_have_one_form,
            "object": object(),
            "class": dict,
            "dtype": torch.float16,
            "nested": [(1, None, True), {"x": float("-inf")}],
            7: "key",
            "text": "\ud800\u732b",
        }
    )
    found = strict(to_json(plain(given)))
    assert found == {
        "enum": "red",
        "tensor": [1.0, "NaN"],
        "large": "tensor [10, 10] torch.float32",
        "set": [1, 2, 3],
        "function": "builtins.function",
        "object": "builtins.object",
        "class": "builtins.dict",
        "dtype": "torch.float16",
        "nested": [[1, None, True], {"x": "-Infinity"}],
        "7": "key",
        "text": "\ud800\u732b",
    }


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_failure_midway_leaves_the_old_file_and_nothing_else(
    explanation, tmp_path, monkeypatch, suffix, error, moment
):
    path = tmp_path / f"cat{suffix}"
    path.write_bytes(b"old")
    seen = []

    def fail(*_):
        seen.extend(os.listdir(tmp_path))
        raise error

    monkeypatch.setattr(f"camkit_render.files.os.{moment}", fail)
    with pytest.raises(type(error)):
        WRITERS[suffix]()(explanation, path)
    assert len(seen) == 2, "the new content was on disk, under another name"
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_existing_file_is_replaced_and_folders_are_made(explanation, tmp_path, suffix):
    path = tmp_path / "new" / "deeper" / f"cat{suffix}"
    WRITERS[suffix]()(explanation, path)
    first = path.read_bytes()
    path.write_bytes(b"old")
    WRITERS[suffix]()(explanation, path)
    assert path.read_bytes() == first
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_folder_is_not_a_file(explanation, tmp_path, suffix):
    with pytest.raises(UnsafeFileError, match="is a folder"):
        WRITERS[suffix]()(explanation, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_map_that_cannot_be_drawn_leaves_no_file(make, tmp_path):
    explanation = make(torch.rand(1, 2, 2, 2, 2))
    with pytest.raises(OptionError, match="spatial axes"):
        PngWriter()(explanation, tmp_path / "new" / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(40,), (4, 6, 6)])
def test_png_of_signals_and_volumes(make, tmp_path, shape):
    explanation = make(torch.rand(1, *shape), inputs=torch.rand(1, 1, *shape))
    PngWriter()(explanation, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.array(image), np.array(Overlay()([explanation])))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_files_get_usual_permissions(explanation, tmp_path):
    before = os.umask(0o022)
    try:
        JsonWriter()(explanation, tmp_path / "a.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_long_file_names_work(explanation, tmp_path):
    path = tmp_path / ("x" * 250 + ".json")
    JsonWriter()(explanation, path)
    assert path.exists()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".json"])
def test_writers_of_values_refuse_drawing_options(explanation, tmp_path, suffix):
    with pytest.raises(OptionError, match=r"no option 'alpha'.*\.png"):
        WRITERS[suffix]()(explanation, tmp_path / f"a{suffix}", alpha=0.3)
    assert os.listdir(tmp_path) == []


def test_png_refuses_unknown_words(explanation, tmp_path):
    with pytest.raises(OptionError, match="'overlya'; did you mean 'overlay'"):
        PngWriter()(explanation, tmp_path / "a.png", renderer="overlya")
    with pytest.raises(OptionError, match="did you mean 'alpha'"):
        PngWriter()(explanation, tmp_path / "a.png", alfa=0.2)


def test_hidden_metadata_of_the_photo_stays_out(make, tmp_path):
    """Camera data such as the place of shooting must not leak into a picture that is shared."""
    photo = Image.new("RGB", (8, 8))
    exif = photo.getexif()
    exif[0x010F] = "SecretCamera"
    stream = io.BytesIO()
    photo.save(stream, "JPEG", exif=exif)
    geometry = Geometry(source_size=(8, 8), input_size=(8, 8), scale=(1.0, 1.0), offset=(0.0, 0.0))
    opened = Image.open(stream)
    PngWriter()(make(torch.rand(1, 8, 8), pictures=[Picture(opened, geometry)]), tmp_path / "a.png")
    assert b"SecretCamera" not in (tmp_path / "a.png").read_bytes()
