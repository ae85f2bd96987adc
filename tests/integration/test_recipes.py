"""Every recipe runs as it stands in an empty folder, and what it prints and writes is real."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from camkit_core import Explanation

from .parity_helpers import one_thread

FOLDER = Path(__file__).parents[2] / "docs" / "recipes"


@dataclass(frozen=True)
class Recipe:
    """What a recipe must say (as a pattern, in order) and write."""

    says: tuple[str, ...]
    writes: tuple[str, ...]


RECIPES = {
    "classification": Recipe(
        (r"green cross: score 9\.\d\d", r"explained at layer3, map \(1, 64, 64\)"),
        ("classification.png",),
    ),
    "several_classes": Recipe(
        (
            r"1\. green cross +gradcam +score +9\.",
            r"2\. gold heart",
            r"3\. gold crescent +hirescam",
        ),
        ("several_classes.png",),
    ),
    "detection_faster_rcnn": Recipe(
        (r"explained: \w.+ at \d+,\d+,\d+,\d+ \(0\.\d\d\)", r"explained: \w.+ at \d+"),
        ("detection_best.png", "detection_second.png"),
    ),
    "detection_yolo_shaped": Recipe(
        (r"explained: class \d.*\(0\.\d\d\)", r"explained: class \d in prediction \d+"),
        ("detection_yolo.png",),
    ),
    "segmentation": Recipe(
        (r"explained: \w+ where predicted", r"explained: \w+ at pixel \(20, 30\)"),
        ("segmentation.png", "segmentation_pixel.png"),
    ),
    "embeddings": Recipe(
        (r"cosine similarity to .*: 0\.\d{3}", r"cosine similarity to .*: -?0\.\d{3}"),
        ("embeddings.png",),
    ),
    "image_text": Recipe(
        (
            r'cosine similarity to "a gold heart": -?0\.\d{3}',
            r'cosine similarity to "a gold heart-vs-a teal disk": -?0\.\d{3}',
        ),
        ("image_text.png",),
    ),
    "vit": Recipe(
        (
            r"default layer: encoder\.layers\.encoder_layer_3\.ln_1",
            r"read as: Tokens\(prefix=1, grid=\(12, 12\)\)",
            r"equal to the one by hand: True",
        ),
        ("vit.png",),
    ),
    "swin": Recipe(
        (
            r"norm is read as ChannelsLast\(\)",
            r"raw map: \(1, 16, 20\)",
            r"raw maps: \[\(1, 32, 40\), \(1, 16, 20\)\]",
        ),
        ("swin.png", "swin_finer.png"),
    ),
    "dinov2_registers": Recipe(
        (r"explained: .*embedding", r"is read as Tokens\(prefix=5, grid=\(8, 10\)\)"),
        ("dinov2.png", "dinov2_eigencam.png"),
    ),
    "volume": Recipe((r"map \(1, 24, 64, 64\), strongest at slice",), ("volume.npz", "volume.png")),
    "video_clip": Recipe(
        (r"width\]: \(1, 3, 8, 112, 112\)", r"explained: \w+", r"frame 7: mean 0\.\d+"),
        ("video.png",),
    ),
    "several_inputs": Recipe(
        (r"diagnosis: class 2 score -?\d", r"age: score -?\d"), ("several_inputs.png",)
    ),
    "training_loop": Recipe((r"step  0: loss .*outside 0\.[3-9]", r"step 30: .*outside 0\.0"), ()),
}


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", RECIPES)
def test_it_runs_and_what_it_shows_is_real(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        left = runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said, recipe = capsys.readouterr().out, RECIPES[name]
    assert re.search(".*".join(recipe.says), said, re.DOTALL), said
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(recipe.writes)
    for file in tmp_path.iterdir():
        assert_real(file)
    for explanation in _explanations(left):
        assert_telling(explanation)


def _explanations(left: dict[str, Any]) -> Iterator[Explanation]:
    found = [value for value in left.values() if isinstance(value, Explanation)]
    yield from found
    for value in left.values():
        if type(value).__name__ == "Comparison":
            found += value.values()
            yield from value.values()
    assert found or "training" in left["__doc__"].lower() or "loss" in left["__doc__"]


def assert_telling(explanation: Explanation) -> None:
    maps = explanation.maps.detach()
    assert bool(torch.isfinite(maps).all())
    assert maps.shape[1:] == explanation.inputs.shape[2:]
    empty = any(issue.code.startswith("all_") for issue in explanation.issues)
    assert not empty, explanation.issues
    assert float(maps.std()) > 0.01


def assert_real(file: Path) -> None:
    """A picture with colors in it, or arrays with values in them."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["maps"].std() > 0.01
        return
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) >= 32
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_every_recipe_is_tested_listed_and_short() -> None:
    files = {file.stem: file.read_text() for file in FOLDER.glob("*.py")}
    assert set(files) == set(RECIPES)
    listed = re.findall(r"^\| \[(\w+)\.py\]\((\w+)\.py\)", (FOLDER / "README.md").read_text(), re.M)
    assert {name for pair in listed for name in pair} == set(RECIPES)
    for name, text in files.items():
        assert text.startswith('"""'), name
        assert 15 <= len(text.splitlines()) <= 58, f"{name}: {len(text.splitlines())} lines"
        assert max(map(len, text.splitlines())) <= 100, name
