"""`torchvision:NAME@...`: random, published and from files, without a network connection."""

from __future__ import annotations

import random
import sys
import urllib.error

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision import models

from camkit_core import ModelError, UnsafeFileError
from camkit_tasks.loaders import torchvision_models
from camkit_tasks.loaders.torchvision_kinds import options_for
from camkit_tasks.loaders.torchvision_models import load


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No download leaves this machine, and none is found in a cache."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


def states_equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_random_weights_are_the_same_in_every_run_and_leave_the_global_state_alone():
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    first = load("torchvision:resnet18@none")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(77)
    second = load("torchvision:resnet18@none")
    assert states_equal(first.model, second.model)
    weights = first.model.fc.weight
    assert weights.std() > 1e-3
    assert not torch.equal(weights[0], weights[1])


def test_random_weights_carry_the_published_metadata():
    loaded = load("torchvision:resnet18@none")
    published = models.ResNet18_Weights.DEFAULT
    assert loaded.weights == "random"
    assert loaded.spec == "torchvision:resnet18@none"
    assert loaded.class_names == tuple(published.meta["categories"])
    assert loaded.class_names[281] == "tabby"
    assert loaded.preprocess.describe()["resize"] == 256
    assert not any(module.training for module in loaded.model.modules())
    assert torch.equal(loaded.model.bn1.running_mean, torch.zeros(64))
    assert "weights are random" in loaded.notes[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_1", "mobilenet_v3_small"])
def test_networks_are_built_without_a_word(name, capfd):
    loaded = load(f"torchvision:{name}@NONE")
    photo = torchvision.transforms.functional.to_pil_image(torch.rand(3, 90, 70))
    with torch.no_grad():
        output = loaded.model(loaded.preprocess(photo).inputs)
    assert output.shape == (1, len(loaded.class_names))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5", r"no network 'resnet5'; did you mean .*'resnet50'"),
        ("resnet-50", r"'resnet50'"),
        ("", "no network ''"),
        ("../resnet50", "no network"),
        ("raft_large", r"is not a network for .*file\.py:factory"),
    ],
)
def test_unknown_networks(name, words):
    with pytest.raises(ModelError, match=words):
        load(f"torchvision:{name}@none")


@pytest.mark.parametrize("at", ["", "@DEFAULT", "@IMAGENET1K_V1"])
def test_pretrained_weights_offline_say_what_to_pass_instead(at):
    with pytest.raises(ModelError) as caught:
        load(f"torchvision:squeezenet1_1{at}")
    text = str(caught.value)
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in text
    assert "could not be downloaded" in text
    assert "no route to host" in text
    assert "torchvision:squeezenet1_1@none" in text
    assert "torchvision:squeezenet1_1@file.safetensors" in text
    assert "\n" not in text
    assert isinstance(caught.value.__cause__, urllib.error.URLError)


def test_pretrained_weights_that_were_downloaded_before(tmp_path):
    cache = tmp_path / "hub" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    source = models.squeezenet1_1()
    torch.save(source.state_dict(), cache / weights.url.rpartition("/")[2])
    loaded = load("torchvision:squeezenet1_1")
    assert states_equal(loaded.model, source)
    assert loaded.weights == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("IMAGENET1K_V3", r"no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V"),
        ("default", "did you mean 'DEFAULT'"),
        ("weights.onnx", r"expected none, IMAGENET1K_V1.*\.safetensors, \.pth, \.pt"),
        ("", "no weights ''"),
    ],
)
def test_unknown_weights(source, words):
    with pytest.raises(ModelError, match=words):
        load(f"torchvision:resnet50@{source}")


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(suffix, tmp_path):
    source, path = models.shufflenet_v2_x0_5(), tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    loaded = load(f"torchvision:shufflenet_v2_x0_5@{path}")
    assert states_equal(loaded.model, source)
    assert loaded.weights == path.name
    assert len(loaded.class_names) == 1000
    assert "ASSUMED" in loaded.notes[0]


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])  # linear, convolution
def test_another_number_of_classes(name, tmp_path):
    source, path = models.get_model(name, num_classes=7), tmp_path / "seven.safetensors"
    save_file(source.state_dict(), path)
    loaded = load(f"torchvision:{name}@{path}")
    assert states_equal(loaded.model, source)
    assert loaded.class_names == ()
    assert "7 classes, whose names are not known" in " ".join(loaded.notes)


def test_a_file_of_another_network(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(models.squeezenet1_1().state_dict(), path)
    with pytest.raises(ModelError, match=r"does not fit ShuffleNetV2: \d+ missing: .*unexpected"):
        load(f"torchvision:shufflenet_v2_x0_5@{path}")


def test_a_published_file_is_recognised_by_its_name(tmp_path):
    first = models.MNASNet0_75_Weights.IMAGENET1K_V1
    path = tmp_path / first.url.rpartition("/")[2]
    torch.save(models.mnasnet0_75().state_dict(), path)
    loaded = load(f"torchvision:mnasnet0_75@{path}")
    assert "recognised" in loaded.notes[0]
    assert str(first) in loaded.notes[0]


def test_googlenet_from_a_file_computes_what_the_published_one_would(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        source = models.GoogLeNet(aux_logits=False, transform_input=True, init_weights=True).eval()
    path = tmp_path / "googlenet.safetensors"
    save_file(source.state_dict(), path)
    loaded = load(f"torchvision:googlenet@{path}")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), source(x))
    assert any("transform_input=True is assumed" in note for note in loaded.notes)


def test_googlenet_file_with_auxiliary_heads(tmp_path):
    source = models.GoogLeNet(aux_logits=True, init_weights=False).eval()
    path = tmp_path / "googlenet.safetensors"
    save_file(source.state_dict(), path)
    assert states_equal(load(f"torchvision:googlenet@{path}").model, source)


def test_the_image_size_of_a_vit_is_read_from_its_positions():
    network = torchvision_models._find("vit_b_16")
    state = {
        "encoder.pos_embedding": torch.zeros(1, 577, 8),
        "conv_proj.weight": torch.zeros(8, 3, 16, 16),
    }
    assert options_for("vit_b_16", "classification", state) == {"image_size": 384}
    like, _ = torchvision_models._like(network, torchvision_models.Path("mine.pth"), 384)
    assert like.transforms().crop_size == [384]
    model = models.VisionTransformer(48, 16, 1, 2, 8, 16)
    loaded = torchvision_models._loaded(network, model, "spec", "mine.pth", network.weights.DEFAULT)
    assert loaded.preprocess.describe()["crop"] == [48, 48]
    assert "48 pixels" in loaded.notes[0]


def test_a_pickle_with_code_is_refused(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(models.squeezenet1_1(), path)
    with pytest.raises(UnsafeFileError, match="refused"):
        load(f"torchvision:squeezenet1_1@{path}")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.pth does not exist"):
        load(f"torchvision:squeezenet1_1@{tmp_path / 'nowhere.pth'}")


# -- torchvision itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "installed but broken"),
        ("raise ImportError('undefined symbol')", "reinstall torch and torchvision together"),
        ("raise OSError('libcudart.so: cannot open')", "installed but broken"),
    ],
)
def test_a_broken_torchvision_is_named(body, words, monkeypatch, tmp_path):
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / "__init__.py").write_text(body)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=words):
        load("torchvision:resnet18@none")


def test_a_missing_torchvision_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModelError, match=r"not installed.*pip install torchvision"):
        load("torchvision:resnet18@none")
