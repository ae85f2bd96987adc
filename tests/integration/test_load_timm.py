"""`timm:NAME@...`: random, by tag and from files, without a network connection."""

from __future__ import annotations

import pickle

import huggingface_hub
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch import nn

from camkit_core import ModelError, UnsafeFileError, default_registry, explain
from camkit_tasks.loaders import timm_models
from camkit_tasks.loaders.timm_models import load
from camkit_tasks.photos.assume import timm_preprocess

torch.set_num_threads(1)

SMALL = "resnet10t"


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No download leaves this machine, and none is found in a cache."""
    monkeypatch.setattr(timm_models, "reachable", lambda: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def picture(width: int = 90, height: int = 70) -> Image.Image:
    values = torch.randint(
        0, 256, (3 * width * height,), generator=torch.Generator().manual_seed(0)
    )
    return Image.frombytes("RGB", (width, height), bytes(values.tolist()))


def test_random_weights_are_the_same_in_every_run_and_leave_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load(f"timm:{SMALL}@none")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert same(first.model, load(f"timm:{SMALL}@NONE").model)
    assert first.model.fc.weight.std() > 1e-3
    assert not any(module.training for module in first.model.modules())


def test_names_ids_and_preprocessing_come_along():
    loaded = load(f"timm:{SMALL}@none")
    assert loaded.class_names[281] == "tabby, tabby cat"
    assert loaded.class_ids[281] == "n02123045"
    assert len(loaded.class_names) == len(loaded.class_ids) == 1000
    assert (loaded.spec, loaded.weights) == (f"timm:{SMALL}@none", "random")
    assert "weights are random" in loaded.notes[0]
    transform = create_transform(**timm.data.resolve_model_data_config(loaded.model))
    prepared = loaded.preprocess(picture())
    torch.testing.assert_close(prepared.inputs[0], transform(picture()), rtol=0, atol=1e-5)
    assert loaded.model(prepared.inputs).shape == (1, 1000)


@pytest.mark.parametrize("word", ["tabby cat", "n02123045", "281"])
def test_a_class_is_found_by_its_name_and_id(word):
    loaded = load(f"timm:{SMALL}@none")
    found = explain(loaded, loaded.preprocess(picture()), "gradcam", word)
    assert found.target.classes.tolist() == [281]
    assert found.target.label == "tabby, tabby cat"


def test_the_registry_loads_it():
    assert default_registry().load_model(f"timm:{SMALL}@none").weights == "random"


@pytest.mark.parametrize(
    "name",
    ["resnet50.a1_in1k", "vit_tiny_patch16_224", "vit_base_patch16_siglip_224", "xception65"],
)
def test_every_crop_and_interpolation_is_read_exactly(name):
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    preprocess, transform = timm_preprocess(config), create_transform(**config)
    for photo in (picture(331, 247), picture(151, 223), picture(64, 64)):
        found = preprocess(photo).inputs[0]
        torch.testing.assert_close(found, transform(photo), rtol=0, atol=1e-5)


def test_squashed_photos_are_part_of_that():
    configs = [timm.get_pretrained_cfg(name) for name in ("resnet50.a1_in1k", "convnext_atto")]
    squashed = timm.get_pretrained_cfg("vit_base_patch16_siglip_224")
    assert {one.crop_mode for one in configs} == {"center"}
    config = resolve_data_config(
        pretrained_cfg={**squashed.to_dict(), "crop_mode": "squash", "crop_pct": 0.9}
    )
    found = timm_preprocess(config)(picture(331, 247)).inputs[0]
    wanted = create_transform(**config)(picture(331, 247))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changed", [{"crop_mode": "border"}, {"input_size": (3, 96, 64)}])
def test_where_the_geometry_is_not_known_the_whole_photo_is_squeezed_and_it_is_said(changed):
    net = timm.create_model(SMALL)
    net.pretrained_cfg = {**net.pretrained_cfg, **changed}
    preprocess, notes = timm_models._preprocess(net, None)
    size = changed.get("input_size", (3, 176, 176))[1:]
    assert preprocess(picture()).inputs.shape[2:] == size
    assert preprocess(picture()).pictures[0].geometry.offset == (0, 0)
    assert "without regard to their aspect ratio" in notes[0]


# -- names and tags --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm:resnet5@none", r"no network 'resnet5'; did you mean .*resnet50"),
        ("timm:@none", "no network ''"),
        ("timm:resnet18@a1_in2k", r"no weights 'a1_in2k'; did you mean 'a1_in1k'.*a file ending"),
        ("timm:resnet18@weights.onnx", r"no weights 'weights\.onnx'"),
        (f"timm:{SMALL}@nowhere.pth", r"nowhere\.pth does not exist"),
    ],
)
def test_what_does_not_exist(spec, words):
    with pytest.raises(ModelError, match=words):
        load(spec)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "resnet18@a1_in1k"])
def test_published_weights_offline_say_what_to_pass_instead(name):
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    with pytest.raises(ModelError) as caught:
        load(f"timm:{name}")
    text = str(caught.value)
    assert "weights of timm's resnet18" in text
    assert "timm:resnet18@file.safetensors" in text
    assert "timm:resnet18@none" in text
    assert "\n" not in text
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(suffix, tmp_path):
    source, path = timm.create_model(SMALL), tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    loaded = load(f"timm:{SMALL}@{path}")
    assert same(loaded.model, source)
    assert loaded.weights == path.name
    assert len(loaded.class_names) == 1000
    assert "ASSUMED" in loaded.notes[0]
    assert len(loaded.notes) == 1


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.backbone."])
def test_the_prefix_of_a_training_class_is_taken_off_and_reported(prefix, tmp_path):
    source, path = timm.create_model(SMALL), tmp_path / "mine.safetensors"
    save_file({prefix + name: value for name, value in source.state_dict().items()}, path)
    loaded = load(f"timm:{SMALL}@{path}")
    assert same(loaded.model, source)
    assert f"the prefix {prefix!r} was taken off all names" in loaded.notes[-1]


def test_another_number_of_classes_and_another_image_size(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=96)
    path = tmp_path / "mine.safetensors"
    save_file(source.state_dict(), path)
    loaded = load(f"timm:vit_tiny_patch16_224@{path}")
    assert same(loaded.model, source)
    assert (loaded.class_names, loaded.class_ids) == ((), ())
    assert any("7 classes, whose names are not known" in note for note in loaded.notes)
    assert loaded.model(loaded.preprocess(picture()).inputs).shape == (1, 7)


def test_a_file_of_another_network_and_a_pickle_with_code(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("lcnet_050").state_dict(), path)
    with pytest.raises(ModelError, match=r"does not fit ResNet: \d+ missing: .*unexpected"):
        load(f"timm:{SMALL}@{path}")
    torch.save(timm.create_model("lcnet_050"), path)
    with pytest.raises(UnsafeFileError, match="refused"):
        load(f"timm:{SMALL}@{path}")


def test_a_loaded_model_can_be_sent_to_another_process():
    loaded = load(f"timm:{SMALL}@none")
    again = pickle.loads(pickle.dumps(loaded))
    assert same(again.model, loaded.model)
    assert again.class_ids == loaded.class_ids


def test_a_network_without_a_head_has_an_embedding_and_no_classes() -> None:
    headless = timm.create_model(SMALL, num_classes=0).eval()
    found = explain(headless, torch.rand(1, 3, 64, 64), layers="layer4")
    assert "embedding" in found.target.label
    assert "class" not in found.target.label
    loaded = load("timm:vit_small_patch14_dinov2@none")
    assert loaded is not None
    assert loaded.output is timm_models.as_embedding
    same = explain(headless, torch.rand(1, 3, 64, 64), layers="layer4", output=loaded.output)
    assert same.target.label == found.target.label
    classifier = load(f"timm:{SMALL}@none")
    assert classifier is not None
    assert classifier.output is None
