"""Every row of the table in docs/targets.md is true: what is said is understood and labelled so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

import camkit
from camkit_core import LoadedModel, Prepared, default_registry
from camkit_tasks import ImagePreprocess

PAGE = Path(__file__).resolve().parents[2] / "docs/targets.md"
SIZE = (12, 16)


def rows() -> Iterator[tuple[str, str, str]]:
    """What is said, of which output, and its label."""
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if re.fullmatch(r"`[^`]+`", cells[0]) and len(cells) == 4:
            yield cells[0].strip("`"), cells[1], cells[3]


ROWS = list(rows())


class Features(nn.Module):
    """Something to explain, and a head that says what the table supposes."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        self.head = head

    def forward(self, x: Tensor) -> Any:
        """Whatever the head says of the features `[N, 4, 12, 16]`."""
        return self.head(self.features(x))


class Scores(nn.Module):
    """Class scores with a fixed order: the cats of ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1000)
        strong = {281: 6.0, 282: 5.0, 285: -4.0, 283: -4.5}
        with torch.no_grad():
            self.linear.weight *= 0.01
            self.linear.bias.fill_(-20.0)
            for index, score in strong.items():
                self.linear.bias[index] = score

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, 1000]`."""
        scores: Tensor = self.linear(maps.mean((2, 3)))
        return scores


class OneLogit(nn.Module):
    """Says no."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, 1]`."""
        logit: Tensor = self.linear(maps.mean((2, 3))) - 5
        return logit


class Segments(nn.Module):
    """A cat on the left third, background elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Conv2d(4, 21, 1)

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """`out [N, 21, 12, 16]`."""
        scores = 0.01 * self.classes(maps)
        places = torch.zeros(21, *SIZE)
        places[0] = 1
        places[8, :, :5] = 2
        return {"out": scores + places}


class Detections(nn.Module):
    """Two cats and a dog."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, maps: Tensor) -> list[dict[str, Tensor]]:
        """`boxes [3, 4]`, `scores [3]`, `labels [3]` for each image."""
        small = 0.01 * self.linear(maps.mean((2, 3)))
        boxes = torch.tensor([[1.0, 1, 6, 9], [8, 2, 15, 11], [0, 0, 3, 3]])
        scores = torch.tensor([0.9, 0.8, 0.6])
        return [
            {
                "boxes": boxes + one[:4],
                "scores": scores + one[4],
                "labels": torch.tensor([17, 18, 17]),
            }
            for one in small
        ]


class Predictions(nn.Module):
    """Five predictions before NMS, each a box and scores of 91 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, (4 + 91) * 5)

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, 4 + 91, 5]`: cx, cy, w, h and scores."""
        found = self.linear(maps.mean((2, 3))).sigmoid().unflatten(1, (95, 5))
        return torch.cat([4 + 4 * found[:, :4], 0.1 * found[:, 4:]], 1)


class Objects(nn.Module):
    """Five predictions before NMS, each a box, how sure it is of any object, and 91 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5 * (5 + 91))

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, 5, 5 + 91]`: cx, cy, w, h, objectness and scores."""
        found = self.linear(maps.mean((2, 3))).sigmoid().unflatten(1, (5, 96))
        return torch.cat([4 + 4 * found[..., :4], found[..., 4:]], 2)


class Embeddings(nn.Module):
    """What an image encoder returns."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """`image_embeds [N, 8]`."""
        return {"image_embeds": self.linear(maps.mean((2, 3)))}


def encode_text(texts: Sequence[str]) -> Tensor:
    """Texts to embeddings by their letters."""
    return torch.stack(
        [torch.tensor([text.count(c) for c in "acdegnot"]) for text in texts]
    ).float()


CLASSES = tuple(ResNet50_Weights.DEFAULT.meta["categories"])
OBJECTS = tuple(FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"])
REGIONS = tuple(DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"])

HEADS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "class scores": (Scores, CLASSES),
    "one logit": (OneLogit, ()),
    "segmentation": (Segments, ("background", *REGIONS[1:])),
    "detections": (Detections, OBJECTS),
    "predictions before NMS": (Predictions, OBJECTS),
    "predictions with objectness": (Objects, OBJECTS),
    "embedding": (Embeddings, ()),
    "image and text": (Embeddings, ()),
}


@cache
def model(output: str) -> LoadedModel:
    head, names = HEADS[output]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Features(head()).eval()
    ids = ["n00000000"] * len(names)
    if output == "class scores":
        ids[281] = "n02123045"
    return LoadedModel(
        model=net,
        spec="table",
        weights="random",
        preprocess=ImagePreprocess(resize=SIZE, crop=SIZE),
        class_names=names,
        class_ids=tuple(ids),
        encode_text=encode_text if output == "image and text" else None,
    )


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files the table names."""
    monkeypatch.chdir(tmp_path)
    mask = Image.new("L", (16, 12))
    mask.paste(255, (1, 1, 5, 10))
    mask.save("mask.png")
    Image.new("RGB", (16, 12), "red").save("ref.jpg")
    Image.new("RGB", (16, 12), "green").save("more.jpg")


def image() -> Prepared:
    generator = torch.Generator().manual_seed(2)
    noise = (255 * torch.rand(*SIZE, 3, generator=generator)).to(torch.uint8)
    return ImagePreprocess(resize=SIZE, crop=SIZE)(Image.fromarray(noise.numpy()))


@pytest.mark.parametrize(
    ("said", "output", "label"), ROWS, ids=[f"{said} of {output}" for said, output, _ in ROWS]
)
def test_row(said: str, output: str, label: str) -> None:
    labels = label.split("; ")
    found = camkit.compare(model(output), image(), ["gradcam"], said, "features")
    assert [one.target.label for one in found.values()] == labels
    for one in found.values():
        assert one.provenance.target == one.target.label
        assert one.raw["features"].abs().max() > 0
        assert torch.isfinite(one.score).all()


@pytest.mark.parametrize(("said", "output", "label"), ROWS[::7])
def test_row_for_one_image_of_several(said: str, output: str, label: str) -> None:
    """A list of words is one for each image."""
    if said.startswith("top"):
        return
    both = image().inputs.repeat(2, 1, 1, 1)
    found = camkit.explain(model(output), both, target=[said, said], layers="features")
    assert found.target.labels == (label, label)


def test_the_table_has_every_target_of_our_own() -> None:
    said = " ".join(word for word, _, _ in ROWS)
    for entry in default_registry().entries("target"):
        if entry.distribution == "camkit-tasks":
            assert entry.name in said, entry.name
