"""torchvision's segmentation and video networks by name, without a network connection."""

from __future__ import annotations

import urllib.error

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from camkit_core import InputError, ModelError
from camkit_tasks import ClipPreprocess, ImagePreprocess
from camkit_tasks.default_layer import default_layer
from camkit_tasks.loaders.torchvision_models import load

LRASPP = "lraspp_mobilenet_v3_large"
DEEPLAB = "deeplabv3_mobilenet_v3_large"


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No download leaves this machine, of backbones neither, and none is found in a cache."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(3, height, width, generator=generator)
    return torchvision.transforms.functional.to_pil_image(values)


def test_a_random_segmentation_network_has_the_published_classes_and_preprocessing():
    loaded = load(f"torchvision:{DEEPLAB}@none")
    published = models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT
    assert loaded.class_names == tuple(published.meta["categories"])
    assert loaded.class_names[15] == "person"
    assert loaded.weights == "random"
    photo = picture(60, 90)
    wanted = published.transforms()(photo)[None]
    found = loaded.preprocess(photo)
    torch.testing.assert_close(found.inputs, wanted)
    assert found.inputs.shape == (1, 3, 780, 520)
    assert found.pictures[0].geometry.scale == pytest.approx((90 / 780, 60 / 520))


@pytest.mark.parametrize(("name", "layer"), [(LRASPP, "backbone.16"), (DEEPLAB, "backbone.16")])
def test_its_default_layer_is_the_end_of_the_backbone(name, layer):
    model = load(f"torchvision:{name}@none").model
    assert default_layer(model) == layer
    assert default_layer(torch.nn.Sequential(model)) == f"0.{layer}"
    out = model.get_submodule(layer)
    assert out is list(model.backbone.values())[-1]


@pytest.mark.parametrize("auxiliary", [True, False])
def test_weights_of_a_segmentation_network_from_a_file(auxiliary, tmp_path):
    model = getattr(models.segmentation, DEEPLAB)(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=auxiliary
    )
    with torch.no_grad():
        model.classifier[4].weight.fill_(0.25)
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    loaded = load(f"torchvision:{DEEPLAB}@{path}")
    assert loaded.class_names == ()
    assert (loaded.model.aux_classifier is not None) == auxiliary
    assert torch.equal(loaded.model.classifier[4].weight, model.classifier[4].weight)
    assert any("4 classes" in note for note in loaded.notes)


def test_weights_of_another_kind_of_segmentation_network_from_a_file(tmp_path):
    model = getattr(models.segmentation, LRASPP)(
        weights=None, weights_backbone=None, num_classes=21
    )
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    loaded = load(f"torchvision:{LRASPP}@{path}")
    assert len(loaded.class_names) == 21
    high = model.classifier.high_classifier.weight
    assert torch.equal(loaded.model.classifier.high_classifier.weight, high)


@pytest.mark.parametrize("name", ["fcn_resnet50", "r3d_18"])
def test_pretrained_weights_offline_say_what_to_pass_instead(name):
    with pytest.raises(ModelError, match=rf"torchvision:{name}@file\.safetensors.*{name}@none"):
        load(f"torchvision:{name}")


def test_a_video_network_takes_frames_as_torchvision_does():
    loaded = load("torchvision:r3d_18@none")
    published = models.video.R3D_18_Weights.DEFAULT
    assert loaded.class_names == tuple(published.meta["categories"])
    frames = [picture(200, 150, seed) for seed in range(3)]
    film = torch.stack([torchvision.transforms.functional.pil_to_tensor(one) for one in frames])
    wanted = published.transforms()(film)[None]
    found = loaded.preprocess(frames)
    assert found.inputs.shape == (1, 3, 3, 112, 112)
    # The preset resizes bytes by way of floats and rounds: one gray level of 255 may differ.
    level = 1 / 255 / min(published.transforms().std)
    torch.testing.assert_close(found.inputs, wanted, rtol=0, atol=1.01 * level)
    assert loaded.preprocess.describe()["frame"]["resize"] == [128, 171]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (picture(9, 9), r"it explains clips, .* only give it a photo; .* pass 16 frames"),
        ("film.mp4", r"sequence of PIL images, one per frame, got str"),
        ([], r"sequence of PIL images, one per frame, got list"),
        ([picture(9, 9)] * 3, r"has 3 frames, but this network takes exactly 16"),
        ([picture(9, 9)] * 15 + [picture(9, 8)], r"frames of the clip differ in size"),
    ],
)
def test_what_is_no_clip_is_refused(given, words):
    frame = ImagePreprocess(resize=8, crop=(8, 8))
    with pytest.raises(InputError, match=words):
        ClipPreprocess(frame=frame, frames=16, exactly=True)(given)


def test_only_networks_with_position_codes_insist_on_the_number_of_frames():
    from camkit_tasks.loaders.torchvision_kinds import preprocess_of

    exact = {
        name: preprocess_of(models.get_model_weights(name).DEFAULT, "video").exactly
        for name in ("mvit_v1_b", "mvit_v2_s", "swin3d_t", "s3d", "r2plus1d_18")
    }
    assert [name for name, exactly in exact.items() if exactly] == ["mvit_v1_b", "mvit_v2_s"]


def test_networks_for_other_tasks_are_named_as_such():
    with pytest.raises(ModelError, match="raft_small is not a network for classes, segments"):
        load("torchvision:raft_small@none")
