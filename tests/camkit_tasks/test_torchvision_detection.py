"""`torchvision:DETECTOR@...`: random, published and from files, without a network connection."""

from __future__ import annotations

import random
import urllib.error

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import detection

from camkit_core import ModelError
from camkit_tasks.loaders import torchvision_detection
from camkit_tasks.loaders.torchvision_models import load

NAME = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No download leaves this machine, and none is found in a cache."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


@pytest.mark.parametrize("name", [NAME, "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_random_weights_with_the_published_names(name, capfd):
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    loaded = load(f"torchvision:{name}@none")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert loaded.weights == "random"
    assert "weights are random" in loaded.notes[0]
    assert len(loaded.class_names) == 91
    assert (loaded.class_names[0], loaded.class_names[18]) == ("__background__", "dog")
    assert not any(module.training for module in loaded.model.modules())
    assert capfd.readouterr() == ("", "")


def test_only_random_weights_lose_their_threshold(tmp_path):
    loaded = load(f"torchvision:{NAME}@none")
    assert loaded.model.score_thresh == 0
    assert "no detection is dropped" in loaded.notes[1]
    save_file(loaded.model.state_dict(), tmp_path / "ssd.safetensors")
    usual = detection.__dict__[NAME](weights=None, weights_backbone=None).score_thresh
    filed = load(f"torchvision:{NAME}@{tmp_path}/ssd.safetensors")
    assert filed.model.score_thresh == usual > 0


def test_the_photo_stays_as_it_is():
    """The model resizes and normalizes by itself."""
    loaded = load(f"torchvision:{NAME}@none")
    photo = Image.frombytes("RGB", (61, 47), bytes(range(256)) * 33 + bytes(61 * 47 * 3 - 8448))
    prepared = loaded.preprocess(photo)
    assert prepared.inputs.shape == (1, 3, 47, 61)
    values = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8).view(47, 61, 3)
    torch.testing.assert_close(prepared.inputs[0], values.permute(2, 0, 1) / 255)
    assert prepared.pictures[0].geometry.scale == (1.0, 1.0)


def test_the_same_network_in_every_run():
    first, second = (load(f"torchvision:{NAME}@none").model.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", rf"weights .*COCO_V1 of {NAME} could not be downloaded.*@file\.safetensors.*@none"),
        ("@COCO_V1", "could not be downloaded"),
        ("@COCO_V2", r"has no weights 'COCO_V2'; did you mean 'COCO_V1'"),
        ("@missing.safetensors", "does not exist"),
    ],
)
def test_weights_that_cannot_be_had(source, words):
    with pytest.raises(ModelError, match=words):
        load(f"torchvision:{NAME}{source}")


def test_weights_from_a_file(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        model = detection.__dict__[NAME](weights=None, weights_backbone=None)
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    loaded = load(f"torchvision:{NAME}@{path}")
    state = loaded.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert loaded.class_names[18] == "dog"
    assert "ASSUMED" in loaded.notes[0]


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "ssd300_vgg16",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "retinanet_resnet50_fpn",
        "fcos_resnet50_fpn",
    ],
)
def test_the_number_of_classes_is_read_from_the_weights(name):
    with torch.device("meta"):
        known, other = (
            detection.__dict__[name](weights=None, weights_backbone=None, num_classes=count)
            for count in (91, 7)
        )
    assert torchvision_detection._classes(known, other.state_dict(), 91) == 7
    assert torchvision_detection._classes(known, known.state_dict(), 91) is None


def test_a_file_with_other_classes(tmp_path):
    model = detection.__dict__[NAME](weights=None, weights_backbone=None, num_classes=4)
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    loaded = load(f"torchvision:{NAME}@{path}")
    assert loaded.class_names == ()
    assert "4 classes (with the background), whose names are not known" in loaded.notes[0]


def test_a_file_of_another_network(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="does not fit"):
        load(f"torchvision:{NAME}@{path}")
