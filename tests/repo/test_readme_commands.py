"""The command lines in the READMEs work, with ResNet-18 in the place of ResNet-50."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import skimage
import torch
import torchvision
from safetensors.torch import save_file

from camkit.cli import main

FACTORY = """
import torch, torchvision


def build():
    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).eval()
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo, a user's file and a weights file, and nothing of the checkout."""
    cat = Path(skimage.__file__).parent / "data" / "chelsea.png"
    (tmp_path / "photo.png").write_bytes(cat.read_bytes())
    for name in ("mynet.py", "file.py"):
        (tmp_path / name).write_text(FACTORY)
    torch.manual_seed(4)
    weights = torchvision.models.resnet18(weights=None).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["README.md", "camkit/README.md"])
def test_every_command_of_the_readme_works(root, file, desk, capsys):
    lines = _commands((root / file).read_text("utf-8"))
    assert len(lines) >= 3
    for number, line in enumerate(lines):
        words = shlex.split(line.replace("resnet50", "resnet18"))[1:]
        if "-o" in words:
            words[words.index("-o") + 1] = f"out{number}"
        assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
        _finished(desk / f"out{number}", words)


def _commands(text: str) -> list[str]:
    """Lines of unnamed code blocks that call camkit."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [line for line in lines if line.startswith("camkit ")]


def _finished(out: Path, words: list[str]) -> None:
    """A run with an output folder ends with its record and at least one picture."""
    if "-o" in words:
        assert json.loads((out / "run.json").read_text("utf-8"))
        assert list(out.rglob("*.png"))
