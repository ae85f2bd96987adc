"""A loaded model says which part of its output is explained; embeddings are no class scores."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from core_proof.methods import registry
from core_proof.networks import Chain, images
from torch import Tensor, nn

from camkit_core import LoadedModel, TargetError, class_scores, compare, explain, probe_layers


class Two(nn.Module):
    """Scores, and the same upside down, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Chain()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.net(x)
        return {"first": scores, "second": -scores}


def loaded(**words) -> LoadedModel:
    return LoadedModel(
        model=Two().eval(), spec="two", weights="random", preprocess=lambda photo: photo, **words
    )


def scores_of(model, target=1, **words) -> Tensor:
    return explain(
        model, images(2), "gradcam", target, "net.body", registry=registry(), **words
    ).score


@pytest.mark.parametrize("part", ["second", lambda out: out["second"]])
def test_the_part_a_loaded_model_names_is_explained(part):
    first = scores_of(loaded(), output="first")
    torch.testing.assert_close(scores_of(loaded(output=part)), -first)
    both = compare(
        loaded(output=part), images(2), ["gradcam"], [1], "net.body", registry=registry()
    )
    torch.testing.assert_close(both["gradcam", 0].score, -first)


def test_the_caller_has_the_last_word():
    wanted = scores_of(loaded(), output="first")
    assert torch.equal(scores_of(loaded(output="second"), output="first"), wanted)


def test_layers_are_probed_for_that_part():
    found = probe_layers(loaded(output="second"), images(2), registry=registry())
    assert found.default == "net.neck"
    with pytest.raises(TargetError, match="which part holds the class scores is unclear"):
        probe_layers(loaded(), images(2), registry=registry())


@dataclass
class Output:
    """As libraries return it."""

    logits_per_image: Tensor | None = None
    image_embeds: Tensor | None = None


def test_scores_of_an_image_text_model_are_class_scores():
    scores = torch.randn(2, 3)
    assert class_scores(Output(scores, torch.randn(2, 8))) is scores


@pytest.mark.parametrize("name", ["image_embeds", "embeddings", "pooler_output"])
def test_an_embedding_is_not_taken_for_class_scores(name):
    with pytest.raises(TargetError, match=rf"{name} is an embedding.*like:photo\.jpg.*output="):
        class_scores({name: torch.randn(2, 8)})
    assert class_scores({name: torch.randn(2, 8), "logits": torch.zeros(2, 3)}).shape == (2, 3)
