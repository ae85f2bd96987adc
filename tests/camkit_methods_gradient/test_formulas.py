"""Each method equals its equation, written again as slow NumPy loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gradient_proof import reference as paper
from gradient_proof.checks import assert_equal, assert_live, raw
from gradient_proof.networks import (
    CHANNELS,
    BnNet,
    DeepNet,
    FlatNet,
    GapNet,
    Given,
    GivenFlat,
    Parts,
    SmoothNet,
    Split,
    given,
    images,
    log_probability,
    parts,
)
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

from camkit_core import CapabilityError, TargetError, explain

Array = paper.Array


@dataclass(frozen=True)
class Case:
    """A method, and the reference of one image `(A, G, HA) -> map`."""

    spec: str
    reference: Callable[[Array, Array, Array], Array]

    def maps(self, p: Parts) -> Array:
        """The reference on a batch."""
        rows = zip(p.a, p.g, p.ha, strict=True)
        return np.stack([self.reference(a, g, ha) for a, g, ha in rows])


CASES = [
    Case("gradcam", lambda a, g, ha: paper.gradcam(a, g)),
    Case("gradcampp", lambda a, g, ha: paper.gradcampp(a, g)),
    Case("gradcampp:variant=paper", lambda a, g, ha: paper.gradcampp(a, g)),
    Case("gradcampp:variant=grad-cam", lambda a, g, ha: paper.gradcampp_with_epsilon(a, g)),
    Case("gradcampp:variant=torchcam", lambda a, g, ha: paper.gradcampp_without_alpha(a, g)),
    Case("xgradcam", lambda a, g, ha: paper.xgradcam(a, g)),
    Case("xgradcam:variant=grad-cam", lambda a, g, ha: paper.xgradcam(a, g, epsilon=1e-7)),
    Case("hirescam", lambda a, g, ha: paper.hirescam(a, g)),
    Case("gradcamelementwise", lambda a, g, ha: paper.gradcamelementwise(a, g)),
    Case("layercam", lambda a, g, ha: paper.layercam(a, g)),
    Case("shapleycam", paper.shapleycam),
    Case("ssgradcam", lambda a, g, ha: paper.ssgradcam(a, g)),
    Case("segeigencam", lambda a, g, ha: paper.segeigencam(a, g)),
    Case("eigengradcam", lambda a, g, ha: paper.eigengradcam(a, g)),
    Case("eigengradcam:variant=uncentered", lambda a, g, ha: paper.eigengradcam(a, g)),
    Case("eigengradcam:variant=grad-cam", lambda a, g, ha: paper.eigengradcam(a, g, centered=True)),
    Case("eigencam", lambda a, g, ha: paper.eigencam(a)),
    Case("eigencam:variant=paper", lambda a, g, ha: paper.eigencam(a)),
    Case("eigencam:variant=grad-cam", lambda a, g, ha: paper.eigencam(a, centered=True)),
    Case("kpcacam", lambda a, g, ha: paper.kpcacam(a)),
    *(
        Case(f"kpcacam:kernel={kernel}", lambda a, g, ha, kernel=kernel: paper.kpcacam(a, kernel))
        for kernel in ("rbf", "linear", "poly", "cosine")
    ),
    Case("kpcacam:kernel=rbf,gamma=0.05", lambda a, g, ha: paper.kpcacam(a, "rbf", gamma=0.05)),
    Case("kpcacam:variant=grad-cam", lambda a, g, ha: paper.kpcacam(a, largest_positive=True)),
    Case("fem", lambda a, g, ha: paper.fem(a)),
    Case("fem:sigmas=1", lambda a, g, ha: paper.fem(a, k=1)),
    Case("fem:variant=xplique", lambda a, g, ha: paper.fem_masks(a)),
    Case("lafam", lambda a, g, ha: paper.lafam(a)),
    Case("dummycam", lambda a, g, ha: paper.dummycam(a)),
    Case("fakecam", lambda a, g, ha: paper.fakecam(a)),
]
ANY_SHAPE = {
    *("gradcam", "gradcampp:variant=torchcam", "hirescam", "gradcamelementwise", "layercam"),
    *("shapleycam", "ssgradcam", "lafam", "dummycam", "fakecam"),
}
BY_SPEC = pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec)
DIMS = pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
BATCH = pytest.mark.parametrize("batch", [1, 3])

NETWORKS: dict[str, Callable[[int], Split]] = {
    "relu": lambda dims: SmoothNet(dims, seed=5),
    "signed": lambda dims: SmoothNet(dims, signed=True, seed=6),
    "normalised": lambda dims: BnNet(dims, seed=7),
    "flat": lambda dims: FlatNet(dims, seed=8),
}


@BY_SPEC
@DIMS
@BATCH
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_equation(case: Case, dims: int, batch: int, network: str) -> None:
    net, x = NETWORKS[network](dims), images(batch, dims)
    classes = [2, 0, 4][:batch]
    assert_equal(raw(net, x, case.spec, target=classes), case.maps(parts(net, x, classes)))


@BY_SPEC
@DIMS
def test_equals_the_equation_for_a_curved_score(case: Case, dims: int) -> None:
    """Log-softmax: the Hessian is far from zero, and no gradient is a constant."""
    net, x = SmoothNet(dims, seed=9), images(2, dims, seed=4)
    target = log_probability(3)
    p = parts(net, x, [target, target])
    assert np.abs(p.ha).max() > 0.1 * np.abs(p.g).max()
    assert_equal(raw(net, x, case.spec, target=target), case.maps(p))


@DIMS
def test_shapleycam_uses_the_hessian(dims: int) -> None:
    net, x = DeepNet(dims, seed=9), images(2, dims, seed=4)
    curved, straight = log_probability(3), 3
    p = parts(net, x, [curved, curved])
    without = np.stack([paper.gradcam(a, g) for a, g in zip(p.a, p.g, strict=True)])
    ours = raw(net, x, "shapleycam", target=curved)
    assert np.abs(ours.numpy() - without).max() > 1e-2 * np.abs(without).max()
    # a ReLU network has no curvature of its own: on a logit the method is Grad-CAM
    assert_equal(
        raw(net, x, "shapleycam", target=straight), raw(net, x, "gradcam", target=straight)
    )


@DIMS
@BATCH
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
def test_cam_is_the_row_of_the_head(dims: int, batch: int, signed: bool) -> None:
    net, x = GapNet(dims, signed=signed, seed=2), images(batch, dims)
    classes = [2, 0, 4][:batch]
    p = parts(net, x, classes)
    w = net.fc.weight.detach().numpy()
    expected = np.stack([paper.cam(a, w[c]) for a, c in zip(p.a, classes, strict=True)])
    assert_equal(raw(net, x, "cam", target=classes), expected)


@pytest.mark.parametrize("net", [FlatNet(seed=1), DeepNet(seed=1), SmoothNet(seed=1)], ids=repr)
def test_cam_refuses_networks_without_that_head(net: Split) -> None:
    with pytest.raises(CapabilityError, match="linear"):
        explain(net, images(1), method="cam", target=1, layers="features")


def test_cam_refuses_a_score_that_is_not_a_class() -> None:
    with pytest.raises((CapabilityError, TargetError), match="class"):
        explain(GapNet(), images(1), method="cam", target=log_probability(1), layers="features")


@DIMS
@BATCH
@pytest.mark.parametrize(
    ("name", "reference"), [("gaussian", paper.gaussian), ("sobel", paper.sobel)]
)
def test_maps_of_the_image_alone(
    name: str, reference: Callable[[Array], Array], dims: int, batch: int
) -> None:
    x = images(batch, dims, seed=2)
    explanation = explain(DeepNet(dims), x, method=name, target=1)
    assert set(explanation.raw) == {"input"}
    assert_equal(explanation.raw["input"], np.stack([reference(image) for image in x.numpy()]))


@DIMS
def test_random_weights_are_uniform_and_seeded(dims: int) -> None:
    """The map lies in the span of the channels; its coordinates are the drawn weights."""
    net, x = DeepNet(dims, signed=True, seed=1), images(3, dims)
    p = parts(net, x, [0, 0, 0])
    weights = []
    for seed in range(60):
        maps = raw(net, x, "random", seed=seed)
        assert_live(maps)
        assert torch.equal(maps, raw(net, x, "random", seed=seed))
        for a, one in zip(p.a, maps.numpy(), strict=True):
            w, *_ = np.linalg.lstsq(paper.rows(a), one.reshape(-1), rcond=None)
            assert np.abs(paper.weighted_sum(w, a) - one).max() < 1e-12
            weights.append(w)
        assert np.abs(np.ptp(weights[-3:], axis=0)).max() < 1e-9  # the same for every image
    drawn = np.array(weights[::3])
    assert np.abs(drawn).max() < 1
    assert len(np.unique(drawn.round(9))) == drawn.size == 60 * CHANNELS
    # 360 draws from U(-1, 1): mean 0 +- 0.03, variance 1/3 +- 0.016
    assert abs(drawn.mean()) < 0.15
    assert abs(drawn.var() - 1 / 3) < 0.08


def test_random_leaves_the_global_generator_alone() -> None:
    net, x = DeepNet(), images(1)
    before = torch.get_rng_state()
    raw(net, x, "random", seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_xgradcam_gives_no_weight_to_a_channel_that_sums_to_nothing() -> None:
    """1/0 for one channel must not touch the others; 1e-17/1e-17 is noise, not a weight."""
    net, x = GivenFlat(seed=3), given(n=1)
    x[0, 2] -= x[0, 2].mean()
    x[0, 4] = 0
    x[0, 4, 0, 0], x[0, 4, 4, 7] = 3.0, -3.0
    p = parts(net, x, [1])
    share = np.abs(p.a[0].sum((1, 2))) / np.abs(p.a[0]).sum((1, 2))
    assert (share[[2, 4]] < 1e-15).all()
    assert (np.delete(share, [2, 4]) > 1e-3).all()
    assert_equal(raw(net, x, "xgradcam"), paper.xgradcam(p.a[0], p.g[0])[None])


def test_gradcampp_drops_positions_where_the_denominator_vanishes() -> None:
    """G = -2 / sum A makes eq. 19 divide by zero; relu(G) removes it unless 0 * inf appears."""
    net, x = Given(seed=3), given(n=1).abs()
    cells = x[0, 0].numel()
    sums = x[0].sum((1, 2))
    sums[0] = 8.0
    x[0] *= (sums / x[0].sum((1, 2)))[:, None, None]
    net.fc.weight.data[1, 0] = -2.0 / 8.0 * cells
    net.fc.weight.data[1, 1] = 0.0
    p = parts(net, x, [1])
    assert np.abs(2 * p.g[0, 0] ** 2 + p.a[0, 0].sum() * p.g[0, 0] ** 3).max() < 1e-15
    assert_equal(raw(net, x, "gradcampp"), paper.gradcampp(p.a[0], p.g[0])[None])


def test_gradcampp_keeps_its_shape_for_tiny_gradients() -> None:
    """G^3 of a score times 1e-120 underflows; alpha tends to 1/2 long before."""
    net, x = DeepNet(seed=4), images(2)
    tiny = raw(net, x, "gradcampp", target=lambda output: 1e-120 * output[1])
    p = parts(net, x, [1, 1])
    w = np.maximum(p.g, 0).sum((2, 3)) / 2
    limit = [paper.weighted_sum(*pair) for pair in zip(w, p.a, strict=True)]
    assert_equal(tiny * 1e120, np.stack(limit))


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam", "segeigencam", "kpcacam"])
def test_more_channels_than_positions(name: str) -> None:
    """Eigenvectors must be right whichever side of the matrix is longer."""
    net, x = SmoothNet(seed=5), images(2, size=(2, 2))
    p = parts(net, x, [1, 1])
    assert p.a.shape[1:] == (CHANNELS, 2, 2)
    case = next(case for case in CASES if case.spec == name)
    assert_equal(raw(net, x, name), case.maps(p))


@given_(
    sides=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_shape(sides: list[int], batch: int, seed: int) -> None:
    """Odd, thin and single-cell layers; constant maps are allowed here, guarded tests are above."""
    net = SmoothNet(len(sides), signed=bool(seed % 2), seed=seed % 50)
    x = images(batch, seed=seed, size=tuple(sides))
    p = parts(net, x, [1] * batch)
    for case in CASES:
        if case.spec in ANY_SHAPE:
            ours, reference = raw(net, x, case.spec).numpy(), case.maps(p)
            assert ours.shape == (batch, *sides)
            assert np.abs(ours - reference).max() <= 1e-9 * np.abs(reference).max(), case.spec
