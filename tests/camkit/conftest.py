"""A tiny network of the user's own, small photos, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """Looks for bright places: class "bright" is their mean, class "dark" its negative."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(2, 4)
        with torch.no_grad():
            self.features.weight.fill_(1.0)
            self.features.bias.copy_(torch.tensor([-2.0, -2.5]))
            self.head.weight.copy_(torch.tensor([[9.0, 9], [-9, -9], [1, 0], [0, 1]]))
            self.head.bias.copy_(torch.tensor([1.0, 0, 0, 0]))

    def forward(self, x):
        light = x.detach().flatten(1).mean(1)
        if bool((light > 0.97).any()):
            raise RuntimeError("this network cannot stand white photos")
        x = torch.where((light < 0.03)[:, None, None, None], torch.nan, x)
        return self.head(self.relu(self.features(x)).mean((2, 3)))


NAMES = ["bright", "dark", "crane", "Crane"]


def preprocess():
    from camkit_tasks import ImagePreprocess

    return ImagePreprocess(resize=48, crop=(48, 48), mean=(0, 0, 0), std=(1, 1, 1))


def build():
    return {"model": Net(), "preprocess": preprocess(), "class_names": NAMES}


def nameless():
    return Net(), preprocess()


def random():
    from camkit_core import LoadedModel

    net = Net()
    nn.init.uniform_(net.head.weight)
    return LoadedModel(model=net, spec="", weights="random", preprocess=preprocess())


def broken():
    raise ValueError("the factory\\nhas a bug")
'''


def box_photo(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (90, 60)) -> Path:
    """A gray photo (width, height) with a white box (left, top, right, bottom)."""
    photo = Image.new("RGB", size, (90, 90, 90))
    photo.paste((255, 255, 255), box)
    photo.save(path)
    return path


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Text for people."""
        return self.err.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output, parsed."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in an empty folder, with all plugins and few threads."""
    import torch

    from camkit_core import default_registry

    monkeypatch.chdir(tmp_path)
    for name in ("ALLOW", "BLOCK"):
        monkeypatch.delenv(f"CAMKIT_PLUGINS_{name}", raising=False)
    for name in ("CAMKIT_DEBUG", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    default_registry.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    default_registry.cache_clear()


@pytest.fixture
def net(tmp_path: Path) -> str:
    """Specification of the tiny network."""
    (tmp_path / "net.py").write_text(NET)
    return "net.py:build"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A gray photo (90 x 60) with a white box at columns 50 to 60, rows 10 to 20."""
    return box_photo(Path("photo.png"), (50, 10, 60, 20))


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., list[Path]]:
    """Several photos, each with its box at another place."""

    def make(count: int, sizes: Sequence[tuple[int, int]] = ()) -> list[Path]:
        places = [(20 + 2 * n, 5 + 3 * n, 30 + 2 * n, 15 + 3 * n) for n in range(count)]
        shapes = sizes or [(90, 60)] * count
        names = [Path(f"box{n}.png") for n in range(count)]
        return [box_photo(*each) for each in zip(names, places, shapes, strict=True)]

    return make


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process."""
    from camkit.cli import main

    def call(*argv: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call
