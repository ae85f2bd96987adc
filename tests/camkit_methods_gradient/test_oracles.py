"""Analytic oracles: closed forms and identities that need no second implementation."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from gradient_proof import reference as paper
from gradient_proof.checks import (
    assert_different,
    assert_equal,
    assert_live,
    distance,
    raw,
)
from gradient_proof.networks import (
    CHANNELS,
    SIZES,
    BnNet,
    DeepNet,
    FlatNet,
    GapNet,
    Given,
    GivenQuadratic,
    QuadraticNet,
    SmoothNet,
    Split,
    WallNet,
    given,
    images,
    margin,
    parts,
)
from torch import Tensor

from camkit_core import explain

EXACT = 1e-12
DIMS = pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
CLASSES = [2, 0]


def cells(dims: int) -> int:
    """Number of positions."""
    return int(np.prod(SIZES[dims]))


def sums(maps: Tensor) -> Tensor:
    """Sum over positions, per image."""
    return maps.flatten(1).sum(1)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = EXACT) -> None:
    """Numbers per image; none of them near zero."""
    assert (theirs.abs() > 1e-3).all(), "the comparison would prove nothing"
    assert ((ours - theirs).abs() <= tolerance * theirs.abs()).all(), (ours, theirs)


# --- 1, 3: global average pooling and a linear layer -----------------------------------------


@DIMS
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
@pytest.mark.parametrize("name", ["gradcam", "hirescam", "xgradcam", "shapleycam", "ssgradcam"])
def test_gap_head_makes_it_cam(name: str, dims: int, signed: bool) -> None:
    net, x = GapNet(dims, signed=signed, seed=1), images(2, dims)
    assert_equal(
        raw(net, x, name, target=CLASSES), raw(net, x, "cam", target=CLASSES) / cells(dims), EXACT
    )


@DIMS
def test_gap_head_and_the_methods_that_differ_from_cam(dims: int) -> None:
    net, x = GapNet(dims, seed=1), images(2, dims)
    cam = raw(net, x, "cam", target=CLASSES) / cells(dims)
    for name in ("gradcampp", "layercam", "gradcamelementwise", "eigengradcam", "segeigencam"):
        assert_different(raw(net, x, name, target=CLASSES), cam)


@DIMS
def test_gap_head_gives_gradcampp_in_closed_form(dims: int) -> None:
    """`w_k = Z relu(g) / (2 + g sum A_k)` with `g = w_ck / Z`."""
    net, x = GapNet(dims, seed=1), images(2, dims)
    a = net.features(x).detach()
    g = net.fc.weight.detach()[CLASSES] / cells(dims)
    w = cells(dims) * g.relu() / (2 + g * a.flatten(2).sum(-1))
    expected = (w.reshape(2, CHANNELS, *(1,) * dims) * a).sum(1)
    assert_equal(raw(net, x, "gradcampp", target=CLASSES), expected, EXACT)


# --- 2: positive activations -----------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("kind", [GapNet, FlatNet, DeepNet, SmoothNet])
def test_layercam_is_elementwise_without_negative_activations(kind: type[Split], dims: int) -> None:
    net, x = kind(dims, seed=2), images(2, dims)
    layer, element = raw(net, x, "layercam"), raw(net, x, "gradcamelementwise")
    assert_live(layer)
    assert torch.equal(layer, element) or distance(layer, element) < 1e-15
    signed = kind(dims, seed=2, signed=True)
    assert_different(raw(signed, x, "layercam"), raw(signed, x, "gradcamelementwise"))


# --- 6: linear in the target -----------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("name", ["gradcam", "hirescam", "xgradcam", "shapleycam"])
def test_margin_is_the_difference_of_the_maps(name: str, dims: int) -> None:
    net, x = SmoothNet(dims, seed=3), images(2, dims)
    whole = raw(net, x, name, target=margin(2, 4, 0.6))
    assert_equal(whole, raw(net, x, name, target=2) - 0.6 * raw(net, x, name, target=4), 1e-11)


@DIMS
@pytest.mark.parametrize("name", ["gradcampp", "layercam", "gradcamelementwise"])
def test_margin_is_not_the_difference_of_the_maps(name: str, dims: int) -> None:
    net, x = SmoothNet(dims, seed=3), images(2, dims)
    whole = raw(net, x, name, target=margin(2, 4, 0.6))
    assert_different(whole, raw(net, x, name, target=2) - 0.6 * raw(net, x, name, target=4))


# --- 7, 8, 9: sums ---------------------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("kind", [FlatNet, DeepNet, SmoothNet, BnNet])
def test_xgradcam_and_hirescam_have_the_same_sum(kind: type[Split], dims: int) -> None:
    net, x = kind(dims, seed=4), images(2, dims)
    hires, xgrad = raw(net, x, "hirescam"), raw(net, x, "xgradcam")
    assert_different(xgrad, hires)
    assert_close(sums(xgrad), sums(hires), 1e-11)


@DIMS
def test_euler_bias_free_relu_tail(dims: int) -> None:
    """The score is homogeneous in A: `sum G A = y`."""
    net, x = DeepNet(dims, bias=False, seed=5), images(2, dims)
    explanation = explain(net, x, method="hirescam", target=CLASSES, layers="features")
    assert_live(explanation.raw["features"])
    assert_close(sums(explanation.raw["features"]), explanation.score)
    assert_close(sums(raw(net, x, "xgradcam", target=CLASSES)), explanation.score)
    # a negative control: Grad-CAM's average loses this
    off = sums(raw(net, x, "gradcam", target=CLASSES)) - explanation.score
    assert (off.abs() > 1e-3 * explanation.score.abs()).all()


@DIMS
def test_relu_tail_with_biases(dims: int) -> None:
    """XGrad-CAM eq. 5: `y = sum G A + sum_b dy/db b` over the biases after the layer."""
    net, x = DeepNet(dims, seed=6), images(2, dims)
    maps, expected = raw(net, x, "hirescam", target=CLASSES), []
    for image, c in zip(net.features(x).detach(), CLASSES, strict=True):
        biases = [net.conv.bias, net.fc.bias]
        y = net.tail(image[None])[0, c]
        gradients = torch.autograd.grad(y, biases)
        share = sum(float((g @ b).detach()) for g, b in zip(gradients, biases, strict=True))
        assert abs(share) > 1e-3
        expected.append(y.detach() - share)
    assert_close(sums(maps), torch.stack(expected))


# --- 11: quadratic tails and exact Shapley values --------------------------------------------


def shapley(net: Split, a: Tensor, c: int) -> np.ndarray:
    """Exact Shapley value of each channel of one image, by enumeration; absent means zero."""

    def value(present: tuple[int, ...]) -> float:
        kept = torch.zeros_like(a)
        kept[list(present)] = a[list(present)]
        with torch.no_grad():
            return float(net.tail(kept[None])[0, c])

    k = len(a)
    phi = np.zeros(k)
    for channel in range(k):
        others = [other for other in range(k) if other != channel]
        for size in range(k):
            weight = factorial(size) * factorial(k - 1 - size) / factorial(k)
            for group in combinations(others, size):
                phi[channel] += weight * (value((*group, channel)) - value(group))
    return phi


@DIMS
def test_shapleycam_sums_to_the_shapley_values_of_a_quadratic_tail(dims: int) -> None:
    net, x = QuadraticNet(dims, seed=7), images(2, dims)
    maps = raw(net, x, "shapleycam", target=CLASSES)
    assert_live(maps)
    a = net.features(x).detach()
    exact = [shapley(net, image, c).sum() for image, c in zip(a, CLASSES, strict=True)]
    assert_close(sums(maps), torch.tensor(exact, dtype=torch.float64), 1e-11)
    # efficiency: the values share out y(A) - y(0), and y(0) is 0 here
    scores = net(x)[range(2), CLASSES].detach()
    assert_close(sums(maps), scores, 1e-11)
    off = (sums(raw(net, x, "gradcam", target=CLASSES)) - scores).abs()
    assert (off > 1e-2 * scores.abs()).all()


def test_shapleycam_gives_each_channel_its_shapley_value() -> None:
    """Channels with disjoint supports: the map on each support is one channel's value alone."""
    net, x = GivenQuadratic(seed=8), given(n=2)
    owner = torch.arange(cells(2)).remainder(CHANNELS).reshape(SIZES[2])
    x = x * (owner == torch.arange(CHANNELS)[:, None, None])
    maps = raw(net, x, "shapleycam", target=CLASSES)
    ours = torch.stack([(maps * (owner == k)).sum((1, 2)) for k in range(CHANNELS)], 1)
    exact = np.stack([shapley(net, a, c) for a, c in zip(x, CLASSES, strict=True)])
    assert_equal(ours, exact, 1e-10)


# --- 14: a class that reads the left half only -----------------------------------------------

LOCAL = ["hirescam", "layercam", "gradcamelementwise", "ssgradcam", "eigengradcam"]
LEAKING = ["gradcam", "xgradcam", "gradcampp", "shapleycam", "segeigencam", "eigencam", "lafam"]


@DIMS
@pytest.mark.parametrize("name", LOCAL)
def test_nothing_is_shown_where_the_class_does_not_look(name: str, dims: int) -> None:
    net, x = WallNet(dims, seed=9), images(2, dims)
    maps = raw(net, x, name, target=0)
    assert_live(maps[..., : net.half])
    far = maps[..., net.half :].abs().max()
    assert far <= 1e-12 * maps.abs().max()
    assert raw(net, x, name, target=1)[..., net.half :].abs().max() > 1e-3


@DIMS
@pytest.mark.parametrize("name", LEAKING)
def test_known_failure_something_is_shown_where_the_class_does_not_look(
    name: str, dims: int
) -> None:
    """Averaging gradients, or not using them, spreads the map: a property of these methods."""
    net, x = WallNet(dims, seed=9), images(2, dims)
    maps = raw(net, x, name, target=0)
    assert_live(maps)
    assert maps[..., net.half :].abs().max() > 1e-3 * maps.abs().max()


# --- 23: principal components ----------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("spec", ["eigencam", "eigencam:variant=grad-cam"])
def test_eigencam_of_a_rank_one_layer_is_its_pattern(spec: str, dims: int) -> None:
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(CHANNELS, generator=generator, dtype=torch.float64) + 0.2
    v = torch.randn(SIZES[dims], generator=generator, dtype=torch.float64)
    x = (u.reshape(-1, *(1,) * dims) * v)[None]
    maps = raw(Given(dims), x, spec)
    expected = v - v.mean() if "grad-cam" in spec else v
    assert_equal(maps, (u.norm() * expected)[None], 1e-11)


@DIMS
@pytest.mark.parametrize("kind", [DeepNet, BnNet])
def test_linear_kernel_is_centered_eigencam(kind: type[Split], dims: int) -> None:
    net, x = kind(dims, seed=10), images(2, dims)
    linear = raw(net, x, "kpcacam:kernel=linear")
    assert_equal(linear, raw(net, x, "eigencam:variant=grad-cam"), 1e-10)
    assert_different(linear, raw(net, x, "kpcacam:kernel=sigmoid"))


def test_fem_needs_something_strong() -> None:
    """No position of 40 lies more than sqrt(39) deviations above the mean (Samuelson)."""
    net, x = DeepNet(seed=11), images(2)
    assert_live(raw(net, x, "fem", sigmas=1.0))
    explanation = explain(net, x, method="fem", target=1, layers="features", sigmas=6.3)
    assert (explanation.raw["features"] == 0).all()
    assert (explanation.maps == 0).all()
    assert [issue.code for issue in explanation.issues] == ["all_zero"]


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam", "kpcacam"])
def test_the_sign_of_a_component_follows_the_activations(name: str) -> None:
    """Over many networks the raw map never opposes what it decomposes, nor has a negative sum."""
    lowest = 1.0
    for seed in range(15):
        net, x = DeepNet(seed=seed, signed=True), images(1, seed=seed)
        p = parts(net, x, [1])
        matrix = p.g * p.a if name == "eigengradcam" else p.a
        maps = raw(net, x, name)
        assert_live(maps)
        sums = np.ones_like(matrix[0][0]) if name == "eigencam" else matrix[0].sum(0)
        flat = maps.flatten().numpy()
        size = np.linalg.norm(flat) * np.linalg.norm(sums)
        lowest = min(lowest, float((flat * sums.ravel()).sum() / size))
    assert lowest >= 0


@DIMS
def test_eigencam_of_positive_activations_is_positive(dims: int) -> None:
    """Perron: the first singular vector of a matrix without negative entries has none itself."""
    for seed in range(15):
        maps = raw(DeepNet(dims, seed=seed), images(1, dims, seed=seed), "eigencam")
        assert_live(maps)
        assert maps.min() >= -1e-12 * maps.max()


def test_seg_eigen_shows_its_strongest_side() -> None:
    for seed in range(15):
        maps = raw(DeepNet(seed=seed, signed=True), images(1, seed=seed), "segeigencam")
        assert_live(maps)
        assert maps.max() >= -maps.min()


# --- 35: the frozen target -------------------------------------------------------------------


@DIMS
def test_score_is_the_models_own_number(dims: int) -> None:
    net, x = DeepNet(dims, seed=14), images(3, dims)
    with torch.no_grad():
        output = net(x)
    for target, expected in (
        ([2, 0, 4], output[range(3), [2, 0, 4]]),
        (3, output[:, 3]),
        (None, output.max(1).values),
        (margin(1, 2), torch.stack([margin(1, 2)(row) for row in output])),
    ):
        explanation = explain(net, x, method="gradcam", target=target, layers="features")
        assert torch.equal(explanation.score, expected)
        assert torch.equal(explanation.output, output)


def test_default_target_is_the_top_class_of_each_image() -> None:
    net, x = DeepNet(seed=15), images(8)
    net.fc.bias.data -= net(x).mean(0).detach()
    top = net(x).argmax(1).tolist()
    assert len(set(top)) > 1
    assert_equal(raw(net, x, "hirescam", target=None), raw(net, x, "hirescam", target=top), EXACT)


# --- the picture -----------------------------------------------------------------------------


@DIMS
def test_the_picture_is_the_positive_part_of_the_raw_map(dims: int) -> None:
    """Same resolution here: nothing is resized, so the display map has a closed form."""
    net, x = DeepNet(dims, seed=16), images(2, dims)
    explanation = explain(net, x, method="layercam", target=CLASSES, layers="features")
    positive = explanation.raw["features"].clamp_min(0)
    low, high = positive.flatten(1).amin(1), positive.flatten(1).amax(1)
    low, high = low.reshape(-1, *(1,) * dims), high.reshape(-1, *(1,) * dims)
    assert_equal(explanation.maps, (positive - low) / (high - low), 1e-9)
    p = parts(net, x, CLASSES)
    reference = np.stack([paper.layercam(a, g) for a, g in zip(p.a, p.g, strict=True)])
    assert_equal(explanation.raw["features"], reference)
