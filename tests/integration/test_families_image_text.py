"""CLIP and SigLIP: raw with texts as inputs, the image half alone, and the peers' example."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from camkit_core import LoadedModel, explain
from camkit_tasks import ImagePreprocess, Similarity
from camkit_tasks.loaders.hf_image_text import ByteTokenizer, ImageEmbeddings, TextEncoder

from .family_helpers import ABLATION, GRADIENT, agree, by_hand, pictures, seeded, tokens
from .test_families_hf import PAIR

IDS = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 10, 2], [1, 7, 2, 0, 0, 0]])
GRID, BARE = tokens(1, 4, 4), tokens(0, 4, 4)
SIZE = (64, 64)
LAST, POST = "vision_model.encoder.layers.2.layer_norm1", "vision_model.post_layernorm"


def clip() -> nn.Module:
    return seeded(lambda: hf.CLIPModel(hf.CLIPConfig(**PAIR, projection_dim=24)), pictures(*SIZE))


def siglip() -> nn.Module:
    return seeded(lambda: hf.SiglipModel(hf.SiglipConfig(**PAIR)), pictures(*SIZE))


def loaded(net: nn.Module) -> LoadedModel:
    return LoadedModel(
        model=ImageEmbeddings(net).eval(),
        spec="hf:tiny",
        weights="random",
        preprocess=ImagePreprocess(resize=SIZE, crop=None),
        encode_text=TextEncoder(net, ByteTokenizer.of(net.config)),
    )


def given(count: int = 3, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Two images and `count` texts, as keywords."""
    ids = IDS[:count]
    return {
        "pixel_values": pictures(*SIZE).to(dtype),
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
    }


@pytest.mark.parametrize("target", [0, "probability:1"])
def test_a_raw_clip_is_explained_with_its_texts_as_inputs(target):
    agree(clip(), given(), LAST, GRID, target=target)


@pytest.mark.parametrize("method", ["ablationcam", "scorecam"])
@pytest.mark.parametrize("target", [0, 1])
def test_as_many_texts_as_images_are_not_taken_for_a_text_per_image(method, target):
    net = clip()
    three = explain(net, given(3), method, target)
    two = explain(net, given(2), method, target)
    torch.testing.assert_close(two.maps, three.maps, rtol=0, atol=1e-4)


def test_a_raw_siglip_is_explained_with_its_texts_as_inputs():
    inputs = {name: value for name, value in given().items() if name != "attention_mask"}
    agree(siglip(), inputs, POST, BARE, [GRADIENT], target=2)


@pytest.mark.parametrize(("build", "layer", "reshape"), [(clip, LAST, GRID), (siglip, POST, BARE)])
@pytest.mark.parametrize("target", [None, "text:a dog", "text:a dog-vs-a cat"])
def test_the_image_half_is_explained_with_an_image_alone(build, layer, reshape, target):
    model, layer = loaded(build()), f"image_text.{layer}"
    agree(model, pictures(*SIZE), layer, reshape, [GRADIENT, ABLATION], target=target)


@pytest.mark.parametrize("build", [clip, siglip])
def test_the_halves_compute_what_the_whole_does_and_share_its_parameters(build):
    net = build()
    model, words = loaded(net), ["a dog", "a much longer cat"]
    assert model.encode_text is not None
    ids = ByteTokenizer.of(net.config)(words)
    with torch.no_grad():
        whole = net(pixel_values=pictures(*SIZE), **ids)
        image = model.model(pictures(*SIZE))["image_embeds"]
        text = model.encode_text(words)
    for found, wanted in ((image, whole.image_embeds), (text, whole.text_embeds)):
        torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), wanted)
    theirs = set(map(id, net.parameters()))
    assert all(id(parameter) in theirs for parameter in model.model.parameters())
    assert not any(
        "text" in name.split(".")[1] for name, _ in model.model.named_modules() if "." in name
    )


class Classifier(nn.Module):
    """What the example of the peer library wraps CLIP in: probabilities over fixed texts."""

    def __init__(self, net: nn.Module, words: dict[str, Tensor]) -> None:
        super().__init__()
        self.clip, self.words = net, words

    def forward(self, x: Tensor) -> Tensor:
        return self.clip(pixel_values=x, **self.words).logits_per_image.softmax(dim=1)


@pytest.mark.parametrize("explained", ["probability", "probability:2"])
def test_the_clip_example_of_the_peer_library_in_float64(explained):
    net = clip().double()
    inputs = given(dtype=torch.float64)
    words = {name: value for name, value in inputs.items() if name != "pixel_values"}
    targets = None if explained == "probability" else [ClassifierOutputTarget(2)] * 2
    layer = net.get_submodule(LAST)
    with GradCAM(Classifier(net, words), [layer], by_hand(GRID)) as peer:
        wanted = torch.from_numpy(peer(inputs["pixel_values"], targets=targets))
    found = explain(net, inputs, "gradcam", explained)
    assert found.maps.dtype == torch.float64
    torch.testing.assert_close(found.maps, wanted.double(), rtol=0, atol=1e-5)


def test_similarity_to_a_reference_is_that_of_the_peer_library_s_embedding_example():
    """Its concept target is the cosine of the whole embedding with that of another image."""
    model, x = loaded(clip().double()), pictures(*SIZE).double()
    reference = x.flip(-1)[:1]
    with torch.no_grad():
        concept = model.model(reference)["image_embeds"][0]

    class SimilarityToConcept:
        def __call__(self, output: Tensor) -> Tensor:
            return torch.nn.CosineSimilarity(dim=0)(output, concept)

    class Vector(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)["image_embeds"]

    name = f"image_text.{LAST}"
    layer = model.model.get_submodule(name)
    with GradCAM(Vector(model.model), [layer], by_hand(GRID)) as peer:
        wanted = torch.from_numpy(peer(x, targets=[SimilarityToConcept()] * 2))
    found = explain(model, x, "gradcam", Similarity(reference))
    torch.testing.assert_close(found.maps, wanted.double(), rtol=0, atol=1e-5)
