"""`camkit demo` with stand-ins for the packages it asks the registry for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from camkit_core import (
    Entry,
    Explanation,
    Geometry,
    LoadedModel,
    MethodModel,
    ModelError,
    Need,
    OptionError,
    Picture,
    Prepared,
    Registry,
    UnknownNameError,
    hookimpl,
)
from camkit_playground import demonstration
from camkit_playground.demonstration import RANDOM, demonstrate


class Mean(MethodModel):
    """Average activation."""

    name: ClassVar[str] = "eigencam"
    needs: ClassVar[Need] = Need.ACTIVATIONS

    def __call__(self, capture: Any, /) -> Tensor:
        return capture.activations.mean(1)


class Weighted(MethodModel):
    """Gradient times activation."""

    name: ClassVar[str] = "gradcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Any, /) -> Tensor:
        return (capture.gradients * capture.activations).sum(1)


class Row:
    """A renderer: display maps side by side, gray."""

    name = "grid"

    def __call__(self, explanations: list[Explanation], /, **options: Any) -> Image.Image:
        maps = torch.cat([each.maps[0] for each in explanations], 1)
        return Image.frombytes("L", maps.shape[::-1], bytes((255 * maps).byte().flatten().tolist()))


class Png:
    """A writer."""

    name = "png"

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        Row()([explanation]).save(path)


class Shrink:
    """A preprocessing."""

    def __call__(self, photo: Image.Image, /) -> Prepared:
        small = photo.resize((24, 16))
        values = torch.tensor(list(small.tobytes()), dtype=torch.float32).view(16, 24, 3) / 255
        geometry = Geometry(
            source_size=photo.size[::-1],
            input_size=(16, 24),
            scale=(photo.height / 16, photo.width / 24),
            offset=(0, 0),
        )
        return Prepared(values.permute(2, 0, 1)[None], (Picture(photo, geometry),))

    def describe(self) -> dict[str, Any]:
        return {}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Two methods, a model family, a renderer and a writer."""
    home = ModuleType("playground_stand_ins")
    for kind in (Mean, Weighted, Row, Png):
        setattr(home, kind.__name__, kind)
    sys.modules["playground_stand_ins"] = home
    yield Registry(plugins=[("stand-ins", stand_ins())], discover=False)
    del sys.modules["playground_stand_ins"]


def stand_ins(
    *, weights: str = "random", methods: bool = True, pictures: bool = True
) -> ModuleType:
    module = ModuleType("stand_ins")
    where = "playground_stand_ins:"

    @hookimpl
    def camkit_entries() -> list[Entry]:
        needs = {"Mean": ("activations",), "Weighted": ("activations", "gradients")}
        offered = []
        if methods:
            offered += [
                Entry(kind="method", name=kind.name, ref=where + name, needs=needs[name])
                for name, kind in (("Mean", Mean), ("Weighted", Weighted))
            ]
        if pictures:
            offered += [
                Entry(kind="renderer", name="grid", ref=f"{where}Row"),
                Entry(kind="writer", name="png", ref=f"{where}Png", suffixes=(".png",)),
            ]
        return offered

    @hookimpl
    def camkit_load_model(spec: str) -> LoadedModel | None:
        if spec != "stand-in":
            return None
        names = ("cat", "dog", "bird")
        model = network().eval()
        return LoadedModel(
            model=model, spec=spec, weights=weights, preprocess=Shrink(), class_names=names
        )

    module.camkit_entries = camkit_entries  # type: ignore[attr-defined]
    module.camkit_load_model = camkit_load_model  # type: ignore[attr-defined]
    return module


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


def test_it_writes_the_photo_one_picture_per_method_and_a_grid(
    registry: Registry, tmp_path: Path
) -> None:
    said: list[str] = []
    written = demonstrate(registry, tmp_path / "out", said.append, model="stand-in")
    assert list(written) == ["photo", "gradcam", "eigencam", "grid"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chelsea.png",
        "chelsea__eigencam.png",
        "chelsea__gradcam.png",
        "grid.png",
    ]
    with Image.open(written["grid"]) as grid:
        assert grid.size == (48, 16)
        halves = [grid.crop((left, 0, left + 24, 16)).tobytes() for left in (0, 24)]
    assert halves == [pixels(written["gradcam"]), pixels(written["eigencam"])]
    assert all(max(half) == 255 > min(half) for half in halves)


def test_the_photo_is_scikit_images_cat(registry: Registry, tmp_path: Path) -> None:
    from skimage.data import chelsea

    written = demonstrate(registry, tmp_path, lambda _: None, model="stand-in")
    assert pixels(written["photo"]) == chelsea().tobytes()


def test_every_demonstration_is_the_same(registry: Registry, tmp_path: Path) -> None:
    first = demonstrate(registry, tmp_path / "a", lambda _: None, model="stand-in")
    torch.rand(3)
    state = torch.random.get_rng_state()
    second = demonstrate(registry, tmp_path / "b", lambda _: None, model="stand-in")
    assert pixels(first["grid"]) == pixels(second["grid"])
    assert bool((torch.random.get_rng_state() == state).all())


def test_it_says_what_it_does_and_that_the_weights_are_random(
    registry: Registry, tmp_path: Path
) -> None:
    said: list[str] = []
    demonstrate(registry, tmp_path, said.append, model="stand-in")
    assert [line[:5] for line in said[:-1]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "by 2 methods" in said[2]
    assert any(repr(name) in said[2] for name in ("cat", "dog", "bird"))
    assert said[-1] == RANDOM
    assert "not what a trained network sees" in RANDOM


def test_trained_weights_are_not_called_random(registry: Registry, tmp_path: Path) -> None:
    trained = Registry(plugins=[("stand-ins", stand_ins(weights="file"))], discover=False)
    said: list[str] = []
    demonstrate(trained, tmp_path, said.append, model="stand-in")
    assert RANDOM not in said


def test_it_may_be_repeated_in_the_same_folder(registry: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        demonstrate(registry, tmp_path, lambda _: None, model="stand-in")
    assert len(list(tmp_path.iterdir())) == 4


def test_missing_packages_are_named_before_anything_is_written(
    registry: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for parts, extra in (({"methods": False}, "gradient"), ({"pictures": False}, "render")):
        poor = Registry(plugins=[("stand-ins", stand_ins(**parts))], discover=False)
        with pytest.raises(UnknownNameError, match=rf"camkit\[{extra}\]"):
            demonstrate(poor, out, lambda _: None, model="stand-in")
    assert not out.exists()


def test_a_missing_model_family_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"camkit\[tasks\]"):
        demonstrate(registry, tmp_path, lambda _: None)


def test_a_file_in_the_way_is_told(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OptionError, match=r"cannot make the folder .*out'"):
        demonstrate(registry, tmp_path / "out", lambda _: None, model="stand-in")


def test_a_failure_leaves_no_half_picture(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Png, explanation: Explanation, path: Path, /, **options: Any) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    monkeypatch.setattr(Png, "__call__", fail)
    with pytest.raises(ZeroDivisionError):
        demonstrate(registry, tmp_path, lambda _: None, model="stand-in")
    assert [path.name for path in tmp_path.iterdir()] == ["chelsea.png"]


def test_the_command_talks_on_stderr(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import camkit_core
    from camkit_playground.command import demo

    monkeypatch.setattr(camkit_core, "default_registry", lambda: registry)
    monkeypatch.setitem(demonstrate.__kwdefaults__, "model", "stand-in")
    assert demo(out=tmp_path / "here") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == RANDOM
    assert (tmp_path / "here" / "grid.png").is_file()


def test_the_entry_is_found_without_torch() -> None:
    code = (
        "import sys; from camkit_core import Registry; "
        "found = Registry(allow=['camkit-playground']).find('command', 'demo'); "
        "print(found.ref, [m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "camkit_playground.command:demo []"


def test_the_default_network_needs_no_download() -> None:
    assert demonstration.MODEL.endswith("@none")
    assert len(set(demonstration.METHODS)) == len(demonstration.METHODS)
