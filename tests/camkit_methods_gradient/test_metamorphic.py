"""How maps move when the network or the image is changed in ways with a known effect.

Both halves are asserted: what must stay equal, and what must clearly differ. A method's `claims`
say which half it is on, so a mislabelled method fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from camkit_core import Claim, compare, explain
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    assert_live,
    method_class,
    normalised,
    raw,
)
from gradient_proof.networks import (
    CHANNELS,
    DeepNet,
    GapNet,
    SmoothNet,
    Split,
    WallNet,
    images,
    log_probability,
    margin,
)
from torch import Tensor, nn

AT_A_LAYER = (
    "cam gradcam gradcampp xgradcam hirescam gradcamelementwise layercam shapleycam segeigencam "
    "eigengradcam ssgradcam eigencam kpcacam fem lafam dummycam fakecam random"
).split()
OF_THE_IMAGE = ["gaussian", "sobel"]
ALL = AT_A_LAYER + OF_THE_IMAGE
WITH_GRADIENTS = AT_A_LAYER[:11]
SEEDED = ["random"]
UNSEEDED = [name for name in ALL if name not in SEEDED]

EVERY = pytest.mark.parametrize("name", ALL)
EVERY_UNSEEDED = pytest.mark.parametrize("name", UNSEEDED)
TIGHT = 1e-9


def network(name: str, **options: Any) -> Split:
    """A network on which the method is defined and its map is not degenerate."""
    return GapNet(seed=1, **options) if name == "cam" else DeepNet(seed=1, **options)


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


def with_logits(net: Split, scale: float = 1.0, shift: float = 0.0) -> Split:
    """Logits times `scale` plus `shift`."""
    net = copy.deepcopy(net)
    net.fc.weight.data *= scale
    net.fc.bias.data = net.fc.bias.data * scale + shift
    return net


def assert_same_function(net: Split, other: Split, x: Tensor) -> None:
    """The change really is a symmetry."""
    torch.testing.assert_close(other(x), net(x), rtol=1e-12, atol=1e-12)


@EVERY
def test_channel_permutation(name: str) -> None:
    net, x = network(name), images(2)
    assert_same_function(net, permuted(net), x)
    relation(name, Claim.CHANNEL_PERMUTATION, raw(net, x, name), raw(permuted(net), x, name))


@EVERY
def test_channel_rescaling(name: str) -> None:
    net, x = network(name), images(2)
    assert_same_function(net, rescaled(net), x)
    relation(name, Claim.CHANNEL_RESCALING, raw(net, x, name), raw(rescaled(net), x, name))


@EVERY
@pytest.mark.parametrize("scale", [10.0, 1e-3])
def test_score_scaling(name: str, scale: float) -> None:
    net, x = network(name), images(2)
    before = raw(net, x, name, seed=1)
    after = raw(with_logits(net, scale=scale), x, name, seed=1)
    relation(name, Claim.SCORE_SCALING, normalised(before), normalised(after))


@EVERY
def test_score_shift(name: str) -> None:
    net, x = network(name), images(2)
    before, after = raw(net, x, name), raw(with_logits(net, shift=-7.0), x, name)
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
    after = normalised(raw(with_logits(net, scale=scale), x, spec))
    (assert_equal if invariant else assert_different)(after, before)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("name", [n for n in WITH_GRADIENTS if n not in ("cam", "gradcampp")])
def test_no_absolute_epsilon(name: str, scale: float) -> None:
    """Absolute stabilisers would show at extreme scales of the score."""
    net, x = network(name), images(2)
    after = raw(with_logits(net, scale=scale), x, name)
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
    assert_same_function_on(net, x, mirrored, x.flip(axis))
    before, after = raw(net, x, name).flip(axis), raw(mirrored, x.flip(axis), name)
    (assert_different if name in NOT_FLIPPED else assert_equal)(after, before)


@EVERY
@pytest.mark.parametrize("shift", [(0, 3), (2, 0), (1, -2)])
def test_circular_shift(name: str, shift: tuple[int, int]) -> None:
    net, x = network(name, circular=True), images(2)
    assert_same_function_on(net, x, net, x.roll(shift, (-2, -1)))
    before = raw(net, x, name).roll(shift, (-2, -1))
    after = raw(net, x.roll(shift, (-2, -1)), name)
    (assert_different if name in NOT_SHIFTED else assert_equal)(after, before)


def assert_same_function_on(net: Split, x: Tensor, other: Split, y: Tensor) -> None:
    """`net(x) = other(y)`."""
    torch.testing.assert_close(other(y), net(x), rtol=1e-12, atol=1e-12)


@EVERY
def test_mean_shift_of_the_input_folded_into_the_bias(name: str) -> None:
    """arXiv 1711.00867: a constant added to the image and taken back by the first layer."""
    net, x = network(name, padding=0), images(2, size=(9, 11))
    offset = torch.tensor([1.5, -0.7, 0.4], dtype=torch.float64)
    shifted = copy.deepcopy(net)
    first = shifted.features[0]  # type: ignore[index]
    first.bias.data -= torch.einsum("kcij,c->k", first.weight.data, offset)
    moved = x + offset[:, None, None]
    assert_same_function_on(net, x, shifted, moved)
    assert_equal(raw(shifted, moved, name), raw(net, x, name))


# --- the batch -------------------------------------------------------------------------------


@EVERY_UNSEEDED
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
def test_a_batch_is_its_images_one_by_one(name: str, dims: int) -> None:
    net = GapNet(dims, seed=1) if name == "cam" else SmoothNet(dims, seed=1)
    x, classes = images(3, dims), [2, 0, 4]
    together = raw(net, x, name, target=classes)
    alone = [
        raw(net, x[i : i + 1], name, target=c) for i, c in enumerate(classes)
    ]
    if name in ("fakecam", "gaussian"):
        assert torch.equal(together, torch.cat(alone))
    assert_equal(together, torch.cat(alone), 1e-10)


@EVERY_UNSEEDED
def test_order_of_the_batch(name: str) -> None:
    net, x, classes, order = network(name), images(4), [2, 0, 4, 1], [2, 0, 3, 1]
    there = raw(net, x, name, target=classes)[order]
    assert_equal(raw(net, x[order], name, target=[classes[i] for i in order]), there, 1e-10)


@EVERY_UNSEEDED
def test_duplicate_images(name: str) -> None:
    net, x = network(name), images(1).expand(3, -1, -1, -1)
    maps = raw(net, x, name)
    assert_equal(maps, maps[:1].expand_as(maps), 1e-12)


@EVERY
def test_no_memory_of_the_previous_image(name: str) -> None:
    net, x = network(name), images(4)
    fresh = raw(copy.deepcopy(net), x[2:], name)
    raw(net, x[:2], name)
    again = raw(net, x[2:], name)
    assert_live(again)
    assert torch.equal(again, fresh)


@EVERY
def test_further_classes_change_nothing(name: str) -> None:
    net, x = network(name), images(2)
    wider = copy.deepcopy(net)
    wider.fc = nn.Linear(net.fc.in_features, 9, dtype=torch.float64)
    wider.fc.weight.data[:5], wider.fc.bias.data[:5] = net.fc.weight.data, net.fc.bias.data
    assert_equal(raw(wider, x, name), raw(net, x, name), 1e-12)


# --- many at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in AT_A_LAYER if name != "cam"])
def test_two_layers_in_either_order(name: str) -> None:
    net, x = network(name), images(2)
    early, late = "features.1", "features.3"
    forth = explain(net, x, method=name, target=1, layers=[early, late])
    back = explain(net, x, method=name, target=1, layers=[late, early])
    assert list(forth.raw) == [early, late]
    assert list(back.raw) == [late, early]
    assert forth.raw[early].shape == forth.raw[late].shape
    if name != "fakecam":
        assert_different(forth.raw[early], forth.raw[late])
    if name not in SEEDED:
        for layer in (early, late):
            assert_equal(forth.raw[layer], back.raw[layer], 1e-12)
            assert_equal(forth.raw[layer], raw(net, x, name, layer=layer), 1e-12)
        assert_equal(back.maps, forth.maps, 1e-12)


def test_many_methods_at_once_are_the_single_calls() -> None:
    net, x = GapNet(seed=1), images(2)
    together = compare(net, x, methods=ALL, targets=[3], layers="features", seed=5)
    assert list(together) == [(name, 0) for name in ALL]
    for name in ALL:
        alone = explain(net, x, method=name, target=3, layers="features", seed=5)
        ours = together[name, 0]
        assert set(ours.raw) == set(alone.raw)
        for layer in alone.raw:
            assert_equal(ours.raw[layer], alone.raw[layer], 1e-12)
        assert_equal(ours.maps, alone.maps, 1e-12)
        assert torch.equal(ours.score, alone.score)


@pytest.mark.parametrize("curved", [False, True], ids=["classes", "callables"])
def test_many_targets_at_once_are_the_single_calls(curved: bool) -> None:
    net, x = SmoothNet(seed=1), images(3)
    names = [name for name in AT_A_LAYER if name != "cam"]
    targets: list[Any] = [4, [2, 0, 1], None]
    if curved:
        targets = [log_probability(2), margin(0, 3), [log_probability(0), margin(1, 2), margin(3, 1)]]
    together = compare(net, x, methods=names, targets=targets, layers="features", seed=5)
    assert len(together) == len(names) * len(targets)
    for position, target in enumerate(targets):
        for name in names:
            alone = explain(net, x, method=name, target=target, layers="features", seed=5)
            ours = together[name, position]
            assert_equal(ours.raw["features"], alone.raw["features"], 1e-12)
            assert torch.equal(ours.score, alone.score)


def test_methods_and_targets_and_layers_in_one_comparison() -> None:
    net, x = SmoothNet(seed=2), images(2)
    layers = ["features.1", "features.3"]
    together = compare(
        net, x, methods=["shapleycam", "layercam", "eigencam"], targets=[1, 2], layers=layers
    )
    for (name, position), ours in together.items():
        alone = explain(net, x, method=name, target=[1, 2][position], layers=layers)
        for layer in layers:
            assert_equal(ours.raw[layer], alone.raw[layer], 1e-12)
        assert_equal(ours.maps, alone.maps, 1e-12)


def test_top_classes_of_each_image() -> None:
    net, x = DeepNet(seed=2), images(3)
    ranks = net(x).topk(2, 1).indices
    together = compare(net, x, methods=["hirescam"], targets=["top2"], layers="features")
    assert list(together) == [("hirescam", 0), ("hirescam", 1)]
    for rank in range(2):
        alone = raw(net, x, "hirescam", target=ranks[:, rank].tolist())
        assert_equal(together["hirescam", rank].raw["features"], alone, 1e-12)


# --- number formats and layouts --------------------------------------------------------------


@EVERY
def test_single_precision(name: str) -> None:
    net, x = network(name), images(2)
    exact = raw(net, x, name, seed=3)
    single = raw(copy.deepcopy(net).float(), x.float(), name, seed=3)
    assert single.dtype == torch.float32
    if name in SEEDED:  # the same stream may be read differently in another precision
        assert_live(single)
        return
    assert_equal(single, exact, 1e-4)


@EVERY
def test_channels_last(name: str) -> None:
    net, x = network(name), images(3)
    turned = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert_equal(
        raw(turned, x.to(memory_format=torch.channels_last), name, seed=1),
        raw(net, x, name, seed=1),
        1e-10,
    )


@EVERY
def test_a_view_with_strides(name: str) -> None:
    net, x = network(name), images(4)
    wide = torch.stack([x, -x], -1)[::2, ..., 0]
    assert not wide.is_contiguous()
    assert_equal(raw(net, wide, name, seed=1), raw(net, x[::2].clone(), name, seed=1), 1e-12)


# --- sign and emptiness ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "xgradcam", "shapleycam"])
def test_the_negative_score_negates_linear_methods(name: str) -> None:
    net, x = SmoothNet(seed=1), images(2)
    score = log_probability(1)
    assert_equal(raw(net, x, name, target=lambda output: -score(output)), -raw(net, x, name, target=score))


def test_the_negated_row_negates_cam() -> None:
    net, x = GapNet(seed=1), images(2)
    turned = with_logits(net, scale=-1.0)
    assert_equal(raw(turned, x, "cam"), -raw(net, x, "cam"), 1e-12)


@pytest.mark.parametrize("name", ["gradcampp", "layercam", "gradcamelementwise"])
def test_methods_of_positive_gradients_do_not_negate(name: str) -> None:
    net, x = SmoothNet(seed=1), images(2)
    minus = raw(net, x, name, target=lambda output: -output[1])
    assert_different(minus, -raw(net, x, name, target=1))


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_a_class_without_weights_has_an_empty_map_and_says_so(name: str) -> None:
    net, x = network(name), images(3)
    net.fc.weight.data[4] = 0
    explanation = explain(net, x, method=name, target=[4, 1, 4], layers="features")
    ours = explanation.raw["features"]
    assert (ours[[0, 2]] == 0).all()
    assert (explanation.maps[[0, 2]] == 0).all()
    assert_live(ours[1:2])
    (issue,) = [issue for issue in explanation.issues if issue.code == "all_zero"]
    assert issue.images == (0, 2)
    assert issue.layer in ("", "features")


@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_a_map_without_positive_values_says_so(name: str) -> None:
    """Positive activations, negative weights: nothing survives the ReLU."""
    net, x = GapNet(seed=1), images(2)
    net.fc.weight.data[1] = -net.fc.weight.data[1].abs()
    explanation = explain(net, x, method=name, target=1, layers="features")
    assert_live(explanation.raw["features"])
    assert (explanation.raw["features"] <= 0).all()
    assert (explanation.maps == 0).all()
    assert "all_negative" in {issue.code for issue in explanation.issues}


# --- degenerate activations ------------------------------------------------------------------


def constant_activations(net: Split) -> None:
    """Every channel the same number at every position."""
    net.features[2].weight.data.zero_()  # type: ignore[index, union-attr]
    net.features[2].bias.data = torch.linspace(0.2, 1.2, CHANNELS, dtype=torch.float64)  # type: ignore[index, union-attr]


def dead_layer(net: Split) -> None:
    """Nothing gets through the ReLU."""
    net.features[2].weight.data.zero_()  # type: ignore[index, union-attr]
    net.features[2].bias.data.fill_(-1.0)  # type: ignore[index, union-attr]


def one_dead_channel(net: Split) -> None:
    """A channel that is zero everywhere."""
    net.features[2].bias.data[3] = -50.0  # type: ignore[index, union-attr]


def no_gradient(net: Split) -> None:
    """No class depends on the layer."""
    net.fc.weight.data.zero_()


def huge(net: Split) -> None:
    """Squares and cubes of these gradients leave the range of float32, not of the answer."""
    net.fc.weight.data *= 1e15


DAMAGES: list[Callable[[Split], None]] = [
    constant_activations,
    dead_layer,
    one_dead_channel,
    no_gradient,
    huge,
]


@EVERY
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_degenerate_layers_give_finite_maps(
    name: str, damage: Callable[[Split], None], dtype: torch.dtype
) -> None:
    net, x = network(name), images(2).to(dtype)
    damage(net)
    explanation = explain(net.to(dtype), x, method=name, target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert torch.isfinite(maps).all()
    assert (explanation.maps >= 0).all()
    assert (explanation.maps <= 1).all()


PATTERNS = [
    *(name for name in AT_A_LAYER if name not in ("cam", "fakecam")),
    "eigencam:variant=grad-cam",
    "eigengradcam:variant=grad-cam",
    "kpcacam:variant=grad-cam",
    "kpcacam:kernel=rbf",
    "xgradcam:variant=grad-cam",
]


@pytest.mark.parametrize("spec", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_rounding_noise_is_not_a_pattern(spec: str, dtype: torch.dtype) -> None:
    """Constant activations have nothing to show: the picture must not be amplified noise.

    A circular network keeps the border from being a pattern of its own: activations and gradients
    are constants, up to rounding.
    """
    net, x = DeepNet(seed=1, circular=True), images(2).to(dtype)
    constant_activations(net)
    explanation = explain(net.to(dtype), x, method=spec, target=1, layers="features")
    assert explanation.maps.flatten(1).std(1).max() < 1e-6
    assert explanation.issues


@EVERY
def test_a_single_position(name: str) -> None:
    """A 1x1 layer can show nothing; it must not divide by its own lack of spread."""
    net, x = network(name), images(2, size=(1, 1))
    explanation = explain(net, x, method=name, target=1, layers="features")
    for maps in (*explanation.raw.values(), explanation.maps):
        assert maps.shape == (2, 1, 1)
        assert torch.isfinite(maps).all()
    assert explanation.issues
