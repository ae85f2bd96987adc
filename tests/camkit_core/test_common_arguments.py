"""Arguments for the whole batch that have, by chance, as many rows as there are images."""

from __future__ import annotations

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import fill, images
from torch import Tensor, nn

from camkit_core import CamkitError, Need, TensorRows, explain

NEEDS = Need.ACTIVATIONS | Need.SCORES | Need.TAIL
OWNER = torch.tensor([1, 0, 1, 1, 0])


class Compares(nn.Module):
    """Images `[N, 2, 6, 6]` with texts `[T, 5]`: scores `[N, T]`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 3, 3)
        self.look, self.read = nn.Linear(48, 4), nn.Linear(5, 4)
        fill(self)

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        seen = self.look(self.body(image).tanh().flatten(1))
        return {"logits_per_image": seen @ self.read(text).T}


class Doubled(nn.Module):
    """One row of numbers per image, and as many classes as images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 3, 3)
        self.head = nn.Linear(48, 2)
        fill(self)

    def forward(self, image: Tensor, gain: Tensor) -> Tensor:
        return self.head(self.body(image).tanh().flatten(1)) * gain


class Gram(nn.Module):
    """Compares every image with every other one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 3, 3)
        fill(self)

    def forward(self, image: Tensor, gain: Tensor) -> Tensor:
        seen = self.body(image).flatten(1) * gain
        return seen @ seen.T


def x() -> Tensor:
    return images(2, channels=2)[..., :6, :6]


def asked(net: nn.Module, inputs, kind: str, target: int) -> tuple[Tensor, Tensor]:
    """Scores of five changed images or layers, and the rows."""
    found: list[Tensor] = []

    def look(capture) -> Tensor:
        source = capture.activations if kind == "tail" else capture.inputs
        gains = torch.linspace(0.2, 1.7, len(OWNER), dtype=source.dtype)
        rows = source[OWNER] * gains[:, None, None, None]
        found.extend((getattr(capture, kind)(TensorRows(rows, OWNER)), rows))
        return capture.inputs.sum(1)

    explain(net, inputs, spy(look, NEEDS), target, "body", registry=registry())
    return found[0], found[1]


def by_hand(net: nn.Module, kind: str, rows: Tensor, *rest: Tensor) -> Tensor:
    if kind == "scores":
        return net(rows, *rest)
    handle = net.body.register_forward_hook(lambda module, args, output: rows)
    try:
        return net(x()[OWNER], *rest)
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", ["scores", "tail"])
@pytest.mark.parametrize("texts", [2, 3])
@pytest.mark.parametrize("target", [0, 1])
def test_texts_are_not_repeated_with_the_images(kind, texts, target):
    net = Compares().double()
    text = torch.randn(texts, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores, rows = asked(net, {"image": x(), "text": text}, kind, target)
    wanted = by_hand(net, kind, rows, text)["logits_per_image"][:, target]
    torch.testing.assert_close(scores, wanted.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["scores", "tail"])
def test_numbers_per_image_follow_their_image_though_there_are_as_many_classes(kind):
    net, gain = Doubled().double(), torch.tensor([[1.0], [-3.0]], dtype=torch.float64)
    scores, rows = asked(net, (x(), gain), kind, 1)
    wanted = by_hand(net, kind, rows, gain[OWNER])[:, 1]
    torch.testing.assert_close(scores, wanted.detach(), rtol=1e-10, atol=1e-12)


def test_images_that_are_compared_with_each_other_are_refused():
    gain = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(CamkitError, match=r"whether 1 belong.*one image at a time"):
        asked(Gram().double(), (x(), gain), "scores", 0)
