"""How maps move when the network is changed in ways with a known effect.

Both halves are asserted: what must stay equal, and what must clearly differ. A method's `claims`
say which half it is on, so a mislabelled method fails.
"""

from __future__ import annotations

import copy

import pytest
import torch
from perturbation_proof.checks import (
    assert_different,
    assert_equal,
    method_class,
    normalised,
    raw,
)
from perturbation_proof.family import EVERY, EVERYTHING, IN_INPUT_SPACE
from perturbation_proof.networks import DeepNet, WillingNet, images
from torch import Tensor

from camkit_core import Claim

TIGHT = 1e-8
CLASSES = [2, 0]


def network() -> DeepNet:
    """A network on which no map is degenerate."""
    return WillingNet(seed=3, stride=1)


def ours(net: DeepNet, x: Tensor, name: str, target: object = None) -> Tensor:
    """The raw map; for sampled Shapley values, enough channels to be sampled."""
    return raw(net, x, EVERYTHING[name], CLASSES if target is None else target)


def relation(name: str, claim: Claim, before: Tensor, after: Tensor) -> None:
    """Equal if the method claims so, clearly different if it does not."""
    if claim in method_class(name).claims:
        assert_equal(after, before, TIGHT)
    else:
        assert_different(after, before, 1e-5)


# On these networks they do not differ, although in general they would, so they do not claim it: six
# channels are enumerated, the clusters are found from any start.
KEPT_HERE = {
    Claim.CHANNEL_PERMUTATION: ("channelshapley", "clustercam", "cosinecam"),
    Claim.CHANNEL_RESCALING: ("cosinecam",),
    Claim.LINEAR_IN_TARGET: ("polycam", "polygradcam"),  # one layer alone is
}


def permuted(net: DeepNet) -> DeepNet:
    """The same function with the layer's channels in another order."""
    net, order = copy.deepcopy(net), torch.tensor([3, 0, 5, 1, 4, 2])
    last = net.features[2]  # type: ignore[index]
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]
    net.conv.weight.data = net.conv.weight.data[:, order]
    return net


def rescaled(net: DeepNet) -> DeepNet:
    """The same function with channel k multiplied by s_k and its readers divided by it."""
    net, s = copy.deepcopy(net), torch.tensor([0.1, 3.0, 1.0, 0.5, 8.0, 2.0], dtype=torch.float64)
    last = net.features[2]  # type: ignore[index]
    last.weight.data *= s.reshape(-1, 1, 1, 1)
    last.bias.data *= s
    net.conv.weight.data /= s.reshape(1, -1, 1, 1)
    return net


def with_logits(net: DeepNet, scale: float = 1.0, shift: float = 0.0) -> DeepNet:
    """The network, with logits times `scale` plus `shift`."""
    net = copy.deepcopy(net)
    net.fc.weight.data *= scale
    net.fc.bias.data = net.fc.bias.data * scale + shift
    return net


@EVERY
def test_channel_permutation(name: str) -> None:
    net, x = network(), images(2)
    torch.testing.assert_close(permuted(net)(x), net(x), rtol=1e-12, atol=1e-12)
    before, after = ours(net, x, name), ours(permuted(net), x, name)
    if name not in KEPT_HERE[Claim.CHANNEL_PERMUTATION]:
        relation(name, Claim.CHANNEL_PERMUTATION, before, after)


@EVERY
def test_channel_rescaling(name: str) -> None:
    net, x = network(), images(2)
    torch.testing.assert_close(rescaled(net)(x), net(x), rtol=1e-12, atol=1e-12)
    before, after = ours(net, x, name), ours(rescaled(net), x, name)
    if name not in KEPT_HERE[Claim.CHANNEL_RESCALING]:
        relation(name, Claim.CHANNEL_RESCALING, before, after)


@EVERY
@pytest.mark.parametrize("scale", [10.0, 0.1])
def test_score_scaling(name: str, scale: float) -> None:
    net, x = network(), images(2)
    before, after = ours(net, x, name), ours(with_logits(net, scale=scale), x, name)
    relation(name, Claim.SCORE_SCALING, normalised(before), normalised(after))


@EVERY
def test_score_shift(name: str) -> None:
    net, x = network(), images(2)
    before, after = ours(net, x, name), ours(with_logits(net, shift=3.0), x, name)
    relation(name, Claim.SCORE_SHIFT, before, after)


@EVERY
def test_linear_in_the_target(name: str) -> None:
    """The map of a margin is the difference of the maps, or it is not."""
    net, x = network(), images(2)
    whole = ours(net, x, name, target=lambda output: output[2] - 0.6 * output[1])
    parts = ours(net, x, name, target=2) - 0.6 * ours(net, x, name, target=1)
    if name not in KEPT_HERE[Claim.LINEAR_IN_TARGET]:
        relation(name, Claim.LINEAR_IN_TARGET, whole, parts)


@pytest.mark.parametrize(
    "name", [n for n in EVERYTHING if n not in ("rise", "sscam", "lime", "kernelshap")]
)
@pytest.mark.parametrize("axis", [-1, -2])
def test_flip_of_image_and_kernels(name: str, axis: int) -> None:
    """Interpolation, windows and blur know no direction."""
    net = network()
    x = images(2, size=(9, 13))
    mirrored = copy.deepcopy(net)
    for parameter in mirrored.parameters():
        if parameter.ndim > 2:
            parameter.data = parameter.data.flip(axis)
    spec = "occlusion:window=3,stride=2" if name == "occlusion" else EVERYTHING[name]
    before = raw(net, x, spec, CLASSES).flip(axis)
    assert_equal(raw(mirrored, x.flip(axis), spec, CLASSES), before, 1e-7)


@EVERY
def test_other_classes_do_not_matter(name: str) -> None:
    net, x = network(), images(2)
    before = ours(net, x, name)
    net.fc.weight.data[[1, 3]] *= -5
    assert_equal(ours(net, x, name), before, TIGHT)


@pytest.mark.parametrize("name", IN_INPUT_SPACE)
def test_input_space_methods_do_not_read_the_layer(name: str) -> None:
    """They give the same map whatever layer is named, and need none."""
    net, x = network(), images(2)
    assert torch.equal(ours(net, x, name), raw(net, x, EVERYTHING[name], CLASSES, layer=None))
