"""The author's guide is true to the letter.

Installing is made up here: metadata beside the sources, as `pip install --editable` leaves them.
The nox session `external` follows the guide with pip and the wheels, building included.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

MADE_UP = ("python -m pip install", "python -m build")


@pytest.fixture(scope="module")
def guide(root) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("guide", root / "tests/repo/guide.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["guide"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """An empty folder with a photo in it, and no settings."""
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(tmp_path / "photo.png")
    for name in ("CAMKIT_STRICT_PLUGINS", "CAMKIT_PLUGINS_ALLOW", "CAMKIT_PLUGINS_BLOCK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def installed(folder: Path) -> None:
    """What an editable install of the plugin in `folder` leaves behind."""
    info = folder / "src" / "camkit_fewcam-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: camkit-fewcam\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[camkit]\nfewcam = camkit_fewcam.plugin\n")


@pytest.mark.slow
def test_every_step_of_the_guide_works(guide, desk, monkeypatch) -> None:
    def run(line: str, folder: Path) -> tuple[int, str]:
        if "--editable" in line:
            installed(folder)
            monkeypatch.setenv("PYTHONPATH", os.fspath(folder / "src"))
        if line.startswith(MADE_UP):
            return 0, ""
        return guide.shell(line, folder)

    reader = guide.Reader(desk, run)
    reader.follow(guide.GUIDE.read_text("utf-8"))
    assert "camkit plugins new fewcam" in reader.steps
    assert list((desk / "camkit-fewcam" / "out").rglob("*.png"))
    assert 60 < reader.written < 160


BROKEN = {
    "a command that fails": "```\ncamkit plugins check nothing_of_that_name\n```\n",
    "a folder that is not there": "```\ncd nowhere\n```\n",
    "a snippet that raises": "```python\nassert 1 == 2\n```\n",
    "a line that is not in the file": "```toml\n# some.toml\nx = 2\n```\n",
    "an output that was not printed": "```\necho one\n```\n\n```text\ntwo\n```\n",
    "a change of a line that is not there": "```python\n# ./some.toml: claims\n```\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_guide_with_a_mistake_is_not_followed(guide, desk, what) -> None:
    (desk / "some.toml").write_text("x = 1\n")
    with pytest.raises(guide.NotAsWritten):
        guide.Reader(desk, guide.shell).follow(BROKEN[what])
