"""Layers that are no pictures: tokens beside a class token, and channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from perturbation_proof import reference as paper
from perturbation_proof.checks import assert_equal, method_class, raw, weights
from perturbation_proof.networks import CHANNELS, ChannelsLastNet, TokenNet, images, parts
from torch import Tensor

GRID = (4, 5)
CLASSES = [2, 0]


class Tokens:
    """`[N, 1 + P, K]` without its first token, as a picture of `GRID`."""

    def to_spatial(self, output: Tensor, /) -> Tensor:
        return output[:, 1:].transpose(1, 2).reshape(len(output), -1, *GRID)

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        return torch.cat([like[:, :1], maps.flatten(2).transpose(1, 2)], 1)


def tokens(net: TokenNet, x: Tensor) -> Tensor:
    """What the layer `blocks` returns."""
    kept: list[Tensor] = []
    handle = net.blocks.register_forward_hook(lambda module, args, output: kept.append(output))
    net(x)
    handle.remove()
    return kept[0].detach()


def picture_scores(net: TokenNet, first: Tensor, c: int) -> Any:
    """Score of a picture of tokens, behind the clean class token."""

    def y(a: np.ndarray) -> float:
        whole = Tokens().from_spatial(torch.from_numpy(a)[None], first[None])
        with torch.no_grad():
            return float(net.behind(whole)[0, c])

    return y


TOKEN_CASES = {
    "ablationcam": lambda a, y: paper.weighted_sum(paper.ablation_weights(a, y), a),
    "reciprocam": paper.reciprocam,
    "vitreciprocam": lambda a, y: paper.reciprocam(a, y, gaussian=True),
    "channelshapley": lambda a, y: paper.weighted_sum(paper.channel_shapley(a, y), a),
}


@pytest.mark.parametrize("name", TOKEN_CASES)
def test_tokens_keep_their_class_token(name: str) -> None:
    net, x = TokenNet(seed=2), images(2)
    expected = []
    for whole, c in zip(tokens(net, x), CLASSES, strict=True):
        a = Tokens().to_spatial(whole[None])[0].numpy()
        expected.append(TOKEN_CASES[name](a, picture_scores(net, whole, c)))
    ours = raw(net, x, name, CLASSES, layer="blocks", reshape=Tokens())
    assert_equal(ours, np.stack(expected))


def test_scorecam_of_tokens() -> None:
    net, x = TokenNet(seed=2), images(2)
    maps = Tokens().to_spatial(tokens(net, x))
    scored = zip(parts(net, x, CLASSES), maps.numpy(), strict=True)
    expected = [paper.scorecam(a, part.x, part.f) for part, a in scored]
    ours = raw(net, x, "scorecam", CLASSES, layer="blocks", reshape=Tokens())
    assert_equal(ours, np.stack(expected))


def test_channels_last_ablation_is_the_brute_force_loop() -> None:
    net, x = ChannelsLastNet(seed=2), images(2)
    expected = torch.zeros(2, CHANNELS, dtype=torch.float64)
    for image, c in enumerate(CLASSES):
        for channel in range(CHANNELS):

            def zero(module: Any, args: Any, output: Tensor, channel: int = channel) -> Tensor:
                changed = output.clone()
                changed[..., channel] = 0
                return changed

            with torch.no_grad():
                clean = net(x[image : image + 1])[0, c]
                handle = net.last.register_forward_hook(zero)
                expected[image, channel] = clean - net(x[image : image + 1])[0, c]
                handle.remove()
    method = method_class("ablationcam")()
    ours = weights(net, x, method, CLASSES, layer="last", reshape="channels_last")
    assert_equal(ours, expected)


@pytest.mark.parametrize("name", ["scorecam", "reciprocam", "groupcam", "opticam:steps=5"])
def test_channels_last_is_channels_first_turned(name: str) -> None:
    """The same numbers in the other layout, one module earlier in the same network."""

    class First(torch.nn.Module):
        def __init__(self, net: ChannelsLastNet) -> None:
            super().__init__()
            self.net = net
            self.turned = torch.nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            a = self.turned(self.net.last(self.net.features(x)).permute(0, 3, 1, 2))
            return super(ChannelsLastNet, self.net).tail(a)

    net, x = ChannelsLastNet(seed=3), images(2)
    last = raw(net, x, name, CLASSES, layer="last", reshape="channels_last")
    first = raw(First(net), x, name, CLASSES, layer="turned", reshape="channels_first")
    assert_equal(last, first, 1e-9)
