"""How maps move when the network or the image is changed in ways with a known effect.

Both halves are asserted: what must stay equal, and what must clearly differ. A method's `claims`
say which half it is on, so a mislabelled method fails.
"""

from __future__ import annotations

import copy

import pytest
import torch
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    assert_live,
    method_class,
    normalised,
    raw,
)
from gradient_proof.family import (
    ALL,
    EVERY,
    WITH_GRADIENTS,
    network,
    with_logits,
)
from gradient_proof.networks import (
    GapNet,
    SmoothNet,
    Split,
    WallNet,
    images,
    log_probability,
    margin,
)
from torch import Tensor, nn

from camkit_core import Claim

TIGHT = 1e-9


def consumer(net: Split) -> nn.Module:
    """The first module that reads the explained layer."""
    return net.fc if isinstance(net, GapNet) else net.conv  # type: ignore[return-value]


def relation(name: str, claim: Claim, before: Tensor, after: Tensor) -> None:
    """Equal if the method claims so, clearly different if it does not."""
    if claim in method_class(name).claims:
        assert_equal(after, before, TIGHT)
    else:
        assert_different(after, before)


# --- symmetries of the network ---------------------------------------------------------------


def permuted(net: Split) -> Split:
    """The same function with the layer's channels in another order."""
    net, order = copy.deepcopy(net), torch.tensor([3, 0, 5, 1, 4, 2])
    last = net.features[2]  # type: ignore[index]
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]
    reader = consumer(net)
    reader.weight.data = reader.weight.data[:, order]  # type: ignore[operator, index]
    return net


def rescaled(net: Split) -> Split:
    """The same function with channel k multiplied by s_k and its readers divided by it."""
    net, s = copy.deepcopy(net), torch.tensor([0.1, 3.0, 1.0, 0.5, 8.0, 2.0], dtype=torch.float64)
    last = net.features[2]  # type: ignore[index]
    last.weight.data *= s.reshape(-1, *(1,) * (last.weight.ndim - 1))
    last.bias.data *= s
    reader = consumer(net)
    reader.weight.data /= s.reshape(1, -1, *(1,) * (reader.weight.ndim - 2))  # type: ignore[operator, union-attr]
    return net


def assert_same_function(net: Split, x: Tensor, other: Split, y: Tensor) -> None:
    """`net(x) = other(y)`: the change really is a symmetry."""
    torch.testing.assert_close(other(y), net(x), rtol=1e-12, atol=1e-12)


@EVERY
def test_channel_permutation(name: str) -> None:
    net, x = network(name), images(2)
    assert_same_function(net, x, permuted(net), x)
    relation(name, Claim.CHANNEL_PERMUTATION, raw(net, x, name), raw(permuted(net), x, name))


@EVERY
def test_channel_rescaling(name: str) -> None:
    net, x = network(name), images(2)
    assert_same_function(net, x, rescaled(net), x)
    relation(name, Claim.CHANNEL_RESCALING, raw(net, x, name), raw(rescaled(net), x, name))


@EVERY
@pytest.mark.parametrize("scale", [10.0, 1e-3])
def test_score_scaling(name: str, scale: float) -> None:
    net, x = network(name), images(2)
    before = raw(net, x, name, seed=1)
    after = raw(with_logits(copy.deepcopy(net), scale=scale), x, name, seed=1)
    relation(name, Claim.SCORE_SCALING, normalised(before), normalised(after))


@EVERY
def test_score_shift(name: str) -> None:
    net, x = network(name), images(2)
    before, after = raw(net, x, name), raw(with_logits(copy.deepcopy(net), shift=-7.0), x, name)
    relation(name, Claim.SCORE_SHIFT, before, after)


@EVERY
def test_gap_is_cam(name: str) -> None:
    net, x = GapNet(seed=1), images(2)
    cam = torch.einsum("k,nkhw->nhw", net.fc.weight[1], net.features(x)).detach()
    ours = raw(net, x, name)
    relation(name, Claim.GAP_IS_CAM, cam / cam[0].numel(), ours)


@EVERY
def test_conservation(name: str) -> None:
    net, x = network(name), images(2)
    a = net.features(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.tail(a)[:, 1].sum(), a)
    expected = (g * a).detach().flatten(1).sum(1)
    ours = raw(net, x, name)
    assert_live(ours)
    off = ((ours.flatten(1).sum(1) - expected) / expected).abs()
    if Claim.CONSERVATION in method_class(name).claims:
        assert off.max() < TIGHT
    else:
        assert off.min() > 1e-3


@pytest.mark.parametrize("name", [name for name in ALL if name != "cam"])
def test_locality(name: str) -> None:
    net, x = WallNet(seed=9), images(2)
    ours = raw(net, x, name, target=0)
    assert_live(ours)
    share = ours[..., net.half :].abs().max() / ours.abs().max()
    if Claim.LOCALITY in method_class(name).claims:
        assert share < TIGHT
    else:
        assert share > 1e-3


@pytest.mark.parametrize("name", [name for name in ALL if name != "cam"])
def test_linear_in_target(name: str) -> None:
    net, x = SmoothNet(seed=3), images(2)
    first, second = log_probability(2), margin(1, 4)
    whole = raw(net, x, name, target=lambda output: first(output) + second(output))
    parts = raw(net, x, name, target=first) + raw(net, x, name, target=second)
    relation(name, Claim.LINEAR_IN_TARGET, parts, whole)


@EVERY
def test_determinism(name: str) -> None:
    net, x = network(name), images(2)
    first = raw(net, x, name, seed=1)
    assert torch.equal(raw(net, x, name, seed=1), first)
    relation(name, Claim.DETERMINISTIC, first, raw(net, x, name, seed=2))


@EVERY
def test_class_discriminative(name: str) -> None:
    """What the listing says about classes is what the maps do."""
    net, x = network(name), images(2)
    one, other = raw(net, x, name, target=1), raw(net, x, name, target=2)
    if method_class(name).class_discriminative:
        assert_different(one, other, margin=1e-2)
    else:
        assert_equal(one, other, 1e-15)


@pytest.mark.parametrize("scale", [10.0, 1e-3])
@pytest.mark.parametrize(
    ("spec", "invariant"),
    [("gradcampp:variant=torchcam", True), ("gradcampp:variant=grad-cam", False)],
)
def test_score_scaling_of_variants(spec: str, invariant: bool, scale: float) -> None:
    net, x = network(spec), images(2)
    before = normalised(raw(net, x, spec))
    after = normalised(raw(with_logits(copy.deepcopy(net), scale=scale), x, spec))
    (assert_equal if invariant else assert_different)(after, before)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("name", [n for n in WITH_GRADIENTS if n not in ("cam", "gradcampp")])
def test_no_absolute_epsilon(name: str, scale: float) -> None:
    """Absolute stabilisers would show at extreme scales of the score."""
    net, x = network(name), images(2)
    after = raw(with_logits(copy.deepcopy(net), scale=scale), x, name)
    assert_equal(after / scale, raw(net, x, name))


# --- symmetries of space ---------------------------------------------------------------------

NOT_FLIPPED = {"fakecam"}  # its dark cell stays in the first corner
NOT_SHIFTED = {"fakecam", "gaussian", "sobel"}  # nor do the middle and the border move


@EVERY
@pytest.mark.parametrize("axis", [-1, -2])
def test_flip_of_image_and_kernels(name: str, axis: int) -> None:
    net, x = network(name), images(2)
    mirrored = copy.deepcopy(net)
    for parameter in mirrored.parameters():
        if parameter.ndim > 2:
            parameter.data = parameter.data.flip(axis)
    assert_same_function(net, x, mirrored, x.flip(axis))
    before, after = raw(net, x, name).flip(axis), raw(mirrored, x.flip(axis), name)
    (assert_different if name in NOT_FLIPPED else assert_equal)(after, before)


@EVERY
@pytest.mark.parametrize("shift", [(0, 3), (2, 0), (1, -2)])
def test_circular_shift(name: str, shift: tuple[int, int]) -> None:
    net, x = network(name, circular=True), images(2)
    assert_same_function(net, x, net, x.roll(shift, (-2, -1)))
    before = raw(net, x, name).roll(shift, (-2, -1))
    after = raw(net, x.roll(shift, (-2, -1)), name)
    (assert_different if name in NOT_SHIFTED else assert_equal)(after, before)


@EVERY
def test_mean_shift_of_the_input_folded_into_the_bias(name: str) -> None:
    """arXiv 1711.00867: a constant added to the image and taken back by the first layer."""
    net, x = network(name, padding=0), images(2, size=(9, 11))
    offset = torch.tensor([1.5, -0.7, 0.4], dtype=torch.float64)
    shifted = copy.deepcopy(net)
    first = shifted.features[0]  # type: ignore[index]
    first.bias.data -= torch.einsum("kcij,c->k", first.weight.data, offset)
    moved = x + offset[:, None, None]
    assert_same_function(net, x, shifted, moved)
    assert_equal(raw(shifted, moved, name), raw(net, x, name))
