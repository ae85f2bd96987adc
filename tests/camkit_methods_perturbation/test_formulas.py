"""Each method equals its equation, written again as slow NumPy loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from perturbation_proof import reference as paper
from perturbation_proof.checks import assert_equal, raw
from perturbation_proof.networks import (
    CHANNELS,
    SIZES,
    DeepNet,
    Part,
    Split,
    WillingNet,
    images,
    parts,
)
from torch import Tensor

Array = paper.Array


@dataclass(frozen=True)
class Case:
    """A method, and the reference of one image."""

    spec: str
    reference: Callable[[Part], Array]


def noise(shape: tuple[int, ...], std: float, seed: int = 0) -> Array:
    """The fields that SS-CAM draws from a seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
    return std * drawn.double().numpy()


CASES = [
    Case("scorecam", lambda p: paper.scorecam(p.a, p.x, p.f)),
    Case("scorecam:variant=authors", lambda p: paper.scorecam_authors(p.a, p.x, p.f)),
    Case("scorecam:variant=grad-cam", lambda p: paper.scorecam(p.a, p.x, p.f, "grad-cam")),
    Case("scorecam:variant=torchcam", lambda p: paper.scorecam(p.a, p.x, p.f, "torchcam")),
    Case("scorecam:normalize=relu", lambda p: paper.scorecam(p.a, p.x, p.f, normalize="relu")),
    Case("scorecam:normalize=none", lambda p: paper.scorecam(p.a, p.x, p.f, normalize="none")),
    Case("gscorecam:top=2", lambda p: paper.gscorecam(p.a, p.g, p.x, p.f, 2)),
    Case("gscorecam:top=3,variant=authors", lambda p: paper.gscorecam(p.a, p.g, p.x, p.f, 3, True)),
    Case(
        "sscam:samples=4,std=0.5",
        lambda p: paper.sscam(p.a, p.x, p.f, noise((4, *p.x.shape[1:]), 0.5)),
    ),
    Case(
        "sscam:samples=4,std=0.5,variant=input",
        lambda p: paper.sscam(p.a, p.x, p.f, noise((4, *p.x.shape), 0.5), on_input=True),
    ),
    Case("iscam", lambda p: paper.iscam(p.a, p.x, p.f, 10)),
    Case("iscam:steps=3", lambda p: paper.iscam(p.a, p.x, p.f, 3)),
    Case("iscam:variant=torchcam", lambda p: paper.iscam(p.a, p.x, p.f, 10, "torchcam")),
    Case("groupcam:groups=4,normalize=relu", lambda p: paper.groupcam(p.a, p.g, p.x, p.f, 4)),
    Case(
        "groupcam:groups=4",
        lambda p: paper.groupcam(p.a, p.g, p.x, p.f, 4, signed=True),
    ),
    Case(
        "groupcam:groups=3,denoise=0,fill=zero",
        lambda p: paper.groupcam(p.a, p.g, p.x, p.f, 3, 0.0, "zero", signed=True),
    ),
    Case("polycam", lambda p: poly(p, "plus")),
    Case("polycam:variant=minus", lambda p: poly(p, "minus")),
    Case("polycam:variant=both", lambda p: poly(p, "both")),
    Case(
        "polygradcam",
        lambda p: paper.weighted_sum([g.mean() for g in p.g], p.a),
    ),
    Case("occlusion:window=3,stride=2", lambda p: paper.occlusion(p.x, p.f, 3, 2, 0.0)),
    Case("occlusion:window=2,fill=-0.5", lambda p: paper.occlusion(p.x, p.f, 2, 1, -0.5)),
    Case("ablationcam", lambda p: paper.weighted_sum(paper.ablation_weights(p.a, p.y), p.a)),
    Case(
        "ablationcam:variant=paper",
        lambda p: paper.weighted_sum(paper.ablation_weights(p.a, p.y) / p.f(p.x), p.a),
    ),
    Case("reciprocam", lambda p: paper.reciprocam(p.a, p.y)),
    Case("reciprocam:gaussian=true", lambda p: paper.reciprocam(p.a, p.y, gaussian=True)),
    Case("vitreciprocam", lambda p: paper.reciprocam(p.a, p.y, gaussian=True)),
    Case("channelshapley", lambda p: paper.weighted_sum(paper.channel_shapley(p.a, p.y), p.a)),
]


def poly(p: Part, variant: str) -> Array:
    """One layer's map of Poly-CAM, signed."""
    return paper.weighted_sum(paper.poly_weights(p.a, p.x, p.f, variant), p.a)


NETWORKS: dict[str, Callable[[int], Split]] = {
    "relu": lambda dims: WillingNet(dims, seed=3),
    "signed": lambda dims: WillingNet(dims, signed=True, seed=1),
}
CLASSES = [2, 0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec)
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_equation(case: Case, dims: int, network: str) -> None:
    net, x = NETWORKS[network](dims), images(2, dims)
    expected = np.stack([case.reference(p) for p in parts(net, x, CLASSES)])
    assert_equal(raw(net, x, case.spec, target=CLASSES), expected)


@pytest.mark.parametrize("p", [0.5, 0.8])
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
def test_rise(dims: int, p: float) -> None:
    """The masks from the same random numbers, made by resizing the whole grid."""
    net, x, count, grid = DeepNet(dims, seed=5), images(2, dims), 12, 3
    generator = torch.Generator().manual_seed(7)
    cells = torch.rand((count, *(grid,) * dims), generator=generator) < p
    steps = [-(-length // grid) for length in SIZES[dims]]
    starts = [torch.randint(step, (count,), generator=generator).tolist() for step in steps]
    masks = np.stack(
        [
            paper.rise_mask(one.numpy().astype(float), start, SIZES[dims])
            for one, start in zip(cells, zip(*starts, strict=True), strict=True)
        ]
    )
    expected = np.stack([paper.rise(q.x, q.f, masks, p) for q in parts(net, x, [2, 0])])
    ours = raw(net, x, f"rise:masks={count},grid={grid},p={p}", target=[2, 0], layer=None, seed=7)
    assert_equal(ours, expected)


def planted(dims: int = 2) -> tuple[Tensor, list[list[int]]]:
    """Images whose six channels are three clear patterns, and the clusters."""
    generator = torch.Generator().manual_seed(3)
    patterns = torch.randn(2, 3, *SIZES[dims], generator=generator, dtype=torch.float64)
    small = 0.02 * torch.randn(2, CHANNELS, *SIZES[dims], generator=generator, dtype=torch.float64)
    place = [0, 1, 2, 1, 0, 2]
    return patterns[:, place] + small, [[0, 4], [1, 3], [2, 5]]


@pytest.mark.parametrize("clustering", ["kmeans", "spectral"])
@pytest.mark.parametrize("select", ["extremes", "all"])
def test_clustercam_on_clear_clusters(clustering: str, select: str) -> None:
    x, clusters = planted()
    net = SeenChannels()
    expected = np.stack(
        [paper.clustercam(p.a, p.x, p.f, clusters, select == "all") for p in parts(net, x, [1, 2])]
    )
    spec = f"clustercam:groups=3,clustering={clustering},select={select}"
    assert_equal(raw(net, x, spec, target=[1, 2], reshape="channels_first"), expected)


def test_cosinecam_on_clear_clusters() -> None:
    """Channels of one direction and different strength belong together."""
    x, clusters = planted()
    x = x * torch.tensor([1.0, 2.0, 0.5, 0.3, 3.0, 1.5], dtype=torch.float64)[:, None, None]
    net = SeenChannels()
    # Gradients along the activations, so that no channel changes its sign.
    net.fc.weight.data[[1, 2]] = x.flatten(1) / 500
    expected = np.stack(
        [paper.cosinecam(p.a, p.g, p.x, p.f, clusters) for p in parts(net, x, [1, 2])]
    )
    ours = raw(net, x, "cosinecam:groups=3", target=[1, 2], reshape="channels_first")
    assert_equal(ours, expected)


class SeenChannels(Split):
    """The activations are the image; a smooth score with a weight per pixel."""

    def build(self) -> None:
        self.features = torch.nn.Identity()
        self.fc = torch.nn.Linear(CHANNELS * int(np.prod(SIZES[self.dims])), 4)

    def tail(self, a: Tensor) -> Tensor:
        return torch.tanh(self.fc(a.flatten(1)) / 3)
