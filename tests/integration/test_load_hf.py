"""`hf:...`: families at random, folders with weights, tasks, tokenizers, without a connection."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights

from camkit_core import ModelError, UnsafeFileError, default_registry, explain
from camkit_tasks.loaders import hf_request
from camkit_tasks.loaders.hf_models import load
from camkit_tasks.loaders.hf_preprocess import translated

from .test_families_hf import PAIR, SEGFORMER, VIT

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No download leaves this machine."""
    monkeypatch.setattr(hf_request, "reachable", lambda: False)


@pytest.fixture
def saved(tmp_path):
    """Save a tiny network as transformers does; returns it and its folder."""

    def save(net: nn.Module, processor: object | None = None):
        net.save_pretrained(tmp_path)
        if processor is not None:
            processor.save_pretrained(tmp_path)
        return net.eval(), str(tmp_path)

    return save


def vit(**words) -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**VIT, **words))


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def picture(width: int = 90, height: int = 70) -> Image.Image:
    values = torch.randint(
        0, 256, (3 * width * height,), generator=torch.Generator().manual_seed(0)
    )
    return Image.frombytes("RGB", (width, height), bytes(values.tolist()))


# -- families --------------------------------------------------------------------------------------


def test_a_family_at_random_is_the_same_in_every_run_and_leaves_the_global_state_alone(capfd):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = default_registry().load_model("hf:mobilevit@none")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert same(first.model, load("hf:mobilevit@NONE").model)
    assert isinstance(first.model, hf.MobileViTForImageClassification)
    assert (first.weights, first.class_names, first.class_ids) == ("random", (), ())
    assert "weights are random" in first.notes[0]
    assert "ASSUMED to be the default of MobileViTImageProcessor" in first.notes[1]
    assert not first.model.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("hf:segformer@none", "SegformerForImageClassification"),
        ("hf:segformer#segmentation@none", "SegformerForSemanticSegmentation"),
        ("hf:resnet#features@none", "ResNetModel"),
    ],
)
def test_a_family_has_several_tasks(spec, kind):
    assert type(load(spec).model).__name__ == kind


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hf:vit", r"vit is a family, not weights; pass hf:vit@none for random weights"),
        ("hf:vit#clasification@none", r"no task 'clasification'; did you mean 'classification'"),
        ("hf:resnet#detection@none", r"resnet has no network for detection; it has classification"),
        ("hf:bert@none", "bert has no network that takes an image alone"),
        ("hf:nosuch/thing", r"could not be found in the cache or downloaded.*hf:vit@none"),
        ("hf:beit#segmentation@none", r"a BeitForSemanticSegmentation of .* could not be built"),
        ("hf:vitt@none", r"could not be found.*did you mean 'vit'"),
    ],
)
def test_what_does_not_exist(spec, words):
    with pytest.raises(ModelError, match=words) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


def test_where_the_default_processor_is_not_understood_the_photo_is_squeezed_and_it_is_said():
    loaded = load("hf:efficientnet@none")
    assert loaded.preprocess(picture()).inputs.shape[2:] == (600, 600)
    assert "ASSUMED: photos resized to 600x600" in loaded.notes[1]


# -- folders ---------------------------------------------------------------------------------------


def test_a_folder_brings_weights_names_and_preprocessing(saved):
    names = dict(enumerate(["cat", "dog", "owl"]))
    size = {"height": 64, "width": 64}
    processor = hf.ViTImageProcessor(size=size, image_mean=[0.4] * 3, image_std=[0.3] * 3)
    net, folder = saved(vit(id2label=names), processor)
    loaded = load(f"hf:{folder}")
    assert same(loaded.model, net)
    assert loaded.class_names == ("cat", "dog", "owl")
    assert loaded.notes == ()
    found = loaded.preprocess(picture())
    wanted = processor(images=picture(), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found.inputs, wanted, rtol=0, atol=1e-5)
    explained = explain(loaded, found, "gradcam", "owl")
    assert explained.target.label == "owl"
    assert explained.maps.shape == (1, 64, 64)
    assert explained.maps.std() > 0


def test_imagenet_s_names_bring_their_wordnet_ids(saved):
    names = dict(enumerate(ResNet18_Weights.DEFAULT.meta["categories"]))
    _, folder = saved(vit(id2label=names))
    assert load(f"hf:{folder}").class_ids[281] == "n02123045"


def test_without_a_processor_the_family_s_default_is_fitted_to_the_configuration(saved):
    _, folder = saved(vit())
    loaded = load(f"hf:{folder}@none")
    assert loaded.preprocess(picture()).inputs.shape == (1, 3, 64, 64)
    assert any("64x64 pixels of the config" in note for note in loaded.notes)


def test_the_architecture_in_the_folder_decides_and_a_task_overrides_it(saved):
    net, folder = saved(hf.SegformerForSemanticSegmentation(hf.SegformerConfig(**SEGFORMER)))
    assert same(load(f"hf:{folder}").model, net)
    features = load(f"hf:{folder}#features")
    assert isinstance(features.model, hf.SegformerModel)
    assert "tensors are not used: decode_head." in features.notes[0]


def test_tensors_that_would_stay_random_are_refused(saved):
    _, folder = saved(hf.ViTModel(hf.ViTConfig(**VIT)))
    with pytest.raises(ModelError, match=r"lack 2 tensors.*classifier\.bias.*would be random"):
        load(f"hf:{folder}#classification")


def test_weights_from_another_file_and_their_prefix(saved, tmp_path):
    net, folder = saved(vit())
    path = tmp_path / "mine.safetensors"
    save_file({f"module.{name}": 2 * value for name, value in net.state_dict().items()}, path)
    loaded = load(f"hf:{folder}@{path}")
    assert torch.equal(loaded.model.classifier.weight, 2 * net.classifier.weight)
    assert loaded.weights == "mine.safetensors"
    assert any("the prefix 'module.' was taken off" in note for note in loaded.notes)


def test_a_pickle_with_code_is_refused(saved, tmp_path):
    net, folder = saved(vit())
    torch.save(net, tmp_path / "whole.pth")
    with pytest.raises(UnsafeFileError, match="refused"):
        load(f"hf:{folder}@{tmp_path / 'whole.pth'}")
    (tmp_path / "model.safetensors").unlink()
    torch.save(net, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="its weights could not be read from that folder"):
        load(f"hf:{folder}")


def test_a_folder_without_weights(saved, tmp_path):
    _, folder = saved(vit())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"its weights could not be read.*hf:vit@none"):
        load(f"hf:{folder}")
    assert load(f"hf:{folder}@none").weights == "random"
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="its configuration could not be read from that folder"):
        load(f"hf:{folder}")


# -- image and text --------------------------------------------------------------------------------


def clip() -> nn.Module:
    return hf.CLIPModel(hf.CLIPConfig(**PAIR, projection_dim=24))


def test_random_image_text_models_read_texts_without_a_tokenizer(saved):
    _, folder = saved(clip())
    loaded = load(f"hf:{folder}@none")
    texts = loaded.encode_text(["a dog", "a cat", "a dog"])
    assert texts.shape == (3, 24)
    assert torch.equal(texts[0], texts[2])
    assert (texts[0] - texts[1]).abs().max() > 1e-4
    assert any("byte by byte" in note for note in loaded.notes)
    x = loaded.preprocess(picture())
    found = explain(loaded, x, "gradcam", "text:a dog-vs-a cat")
    assert found.target.label == 'cosine similarity to "a dog-vs-a cat"'
    assert found.maps.std() > 0


def test_trained_image_text_models_need_their_tokenizer(saved, tmp_path):
    net, folder = saved(clip())
    with pytest.raises(ModelError, match=r"tokenizer of .* cannot be loaded"):
        load(f"hf:{folder}")
    letters = [chr(c) for c in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = hf.CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = load(f"hf:{folder}")
    words = tokenizer(["a dog", "cats"], padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = net(pixel_values=torch.zeros(1, 3, 64, 64), **words).text_embeds
    found = loaded.encode_text(["a dog", "cats"])
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), wanted)
    assert not any("byte" in note for note in loaded.notes)


def test_a_loaded_model_can_be_sent_to_another_process(saved):
    _, folder = saved(clip())
    loaded = load(f"hf:{folder}@none")
    again = pickle.loads(pickle.dumps(loaded))
    assert torch.equal(again.encode_text(["x"]), loaded.encode_text(["x"]))


# -- image processors ------------------------------------------------------------------------------

PROCESSORS = {
    "ViTImageProcessor": {},
    "DeiTImageProcessor": {},
    "CLIPImageProcessor": {"size": {"shortest_edge": 67}, "crop_size": {"height": 64, "width": 60}},
    "SiglipImageProcessor": {"do_rescale": False},
    "BitImageProcessor": {"size": {"shortest_edge": 256}},
    "SegformerImageProcessor": {"size": {"height": 64, "width": 96}, "do_normalize": False},
    "BeitImageProcessor": {
        "do_center_crop": True,
        "size": {"height": 97, "width": 101},
        "crop_size": {"height": 90, "width": 98},
    },
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}},
    "MobileViTImageProcessor": {},
    "DINOv3ViTImageProcessor": {"size": {"height": 64, "width": 96}},
    "LevitImageProcessor": {
        "size": {"shortest_edge": 112},
        "crop_size": {"height": 112, "width": 112},
    },
    "DetrImageProcessor": {"size": {"shortest_edge": 90, "longest_edge": 110}},
}


@pytest.mark.parametrize("suffix", ["", "Pil"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_is_translated_exactly_and_with_its_geometry(name, suffix):
    kind = getattr(hf, f"{name}{suffix}", None) or getattr(hf, name)
    processor = kind(**PROCESSORS[name])
    preprocess = translated(processor)
    for photo in (picture(331, 247), picture(151, 223), picture(64, 300)):
        prepared = preprocess(photo)
        wanted = processor(images=photo, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(prepared.inputs, wanted, rtol=0, atol=1e-4)
        geometry = prepared.pictures[0].geometry
        assert geometry.input_size == tuple(wanted.shape[2:])


def test_convnext_at_384_squeezes_the_photo():
    preprocess = translated(hf.ConvNextImageProcessor())
    assert preprocess(picture()).pictures[0].geometry.offset == (0, 0)
    assert preprocess(picture()).inputs.shape == (1, 3, 384, 384)


def test_a_processor_that_pads_in_another_place_is_found_out():
    settings = {"size": {"height": 97, "width": 101}, "crop_size": {"height": 224, "width": 224}}
    processor = hf.BeitImageProcessorPil(do_center_crop=True, **settings)
    with pytest.raises(ModelError, match="gives other values on a test photo"):
        translated(processor)


def test_a_processor_with_unknown_geometry_is_refused():
    processor = hf.ViTImageProcessor(size={"max_height": 64, "max_width": 64})
    with pytest.raises(ModelError, match=r"ViTImageProcessor is not understood.*every step"):
        translated(processor)
