"""LIME and Kernel SHAP on superpixels, against regressions and Shapley values by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from perturbation_proof import reference as paper
from perturbation_proof.checks import assert_equal, assert_live, method_class, raw
from perturbation_proof.networks import DeepNet, Seen, images, parts
from torch import Tensor

from camkit_core import CapabilityError, InputError, explain
from camkit_methods_perturbation.superpixels import segments

CLASSES = [2, 0]
DIMS = pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
FILL = pytest.mark.parametrize("fill", ["mean", "zero", "blur"])
COUNT = {1: 5, 2: 5, 3: 5}


def few(dims: int) -> str:
    """Superpixels that can be enumerated."""
    return f"superpixels={COUNT[dims]},compactness=1000"


def labels(x: Tensor, count: int, compactness: float = 1000) -> Tensor:
    """Superpixels of each image."""
    return segments(x, count, compactness)


def of_each(picture: Tensor, found: Tensor) -> np.ndarray:
    """The one value that each superpixel of an image has."""
    values = [picture[found == label] for label in range(int(found.max()) + 1)]
    assert all(float(value.max() - value.min()) == 0 for value in values)
    return np.array([float(value[0]) for value in values])


def test_superpixels_are_connected_numbers_from_zero_of_each_image_alone() -> None:
    x = images(3, size=(24, 24))
    found = labels(x, 9, 10.0)
    assert found.shape == (3, 24, 24)
    for image, one in zip(x, found, strict=True):
        assert one.unique().tolist() == list(range(int(one.max()) + 1))
        assert torch.equal(labels(image[None], 9, 10.0)[0], one)


def test_superpixels_follow_the_edges_of_the_image() -> None:
    x = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    x[..., 13:] = 1
    (found,) = labels(x, 8, 0.1)
    assert not set(found[:, :13].unique().tolist()) & set(found[:, 13:].unique().tolist())


@DIMS
@FILL
def test_kernelshap_of_all_sets_is_shapley(dims: int, fill: str) -> None:
    net, x = DeepNet(dims, seed=3), images(2, dims)
    maps = raw(net, x, f"kernelshap:{few(dims)},fill={fill},samples=100", CLASSES)
    for image, part, found in zip(
        maps, parts(net, x, CLASSES), labels(x, COUNT[dims]), strict=True
    ):
        players, places = int(found.max()) + 1, found.numpy()
        assert 1 < players < 7

        def value(shown: frozenset[int], part=part, places=places) -> float:  # type: ignore[no-untyped-def]
            return part.f(paper.covered(part.x, places, sorted(shown), fill))

        expected = paper.shapley(players, value)
        np.testing.assert_allclose(of_each(image, found), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["lime:ridge=0,samples=60", "kernelshap:samples=70"])
def test_an_additive_score_is_recovered_from_any_sample(name: str) -> None:
    size = (12, 12)
    net, x = Seen(size, seed=2), images(2, size=size)
    spec = f"{name},superpixels=9,compactness=1000,fill=zero"
    terms = (net.fc.weight.detach()[CLASSES].reshape(x.shape) * x).sum(1)
    maps = raw(net, x, spec, CLASSES, layer=None)
    for image, term, found in zip(maps, terms, labels(x, 9), strict=True):
        assert int(found.max()) >= 5
        total = [float(term[found == label].sum()) for label in range(int(found.max()) + 1)]
        np.testing.assert_allclose(of_each(image, found), total, rtol=1e-8, atol=1e-10)


@DIMS
@FILL
@pytest.mark.parametrize("options", ["", ",ridge=0.3,width=0.8"])
def test_lime_is_a_weighted_ridge_regression(dims: int, fill: str, options: str) -> None:
    net, x, samples = DeepNet(dims, seed=3), images(2, dims), 30
    spec = f"lime:{few(dims)},fill={fill},samples={samples}{options}"
    width, ridge = (0.8, 0.3) if options else (0.25, 1.0)
    maps = raw(net, x, spec, CLASSES, seed=4)
    seed = int(torch.randint(2**31 - 1, (1,), generator=torch.Generator().manual_seed(4)))
    for image, part, found in zip(
        maps, parts(net, x, CLASSES), labels(x, COUNT[dims]), strict=True
    ):
        count = int(found.max()) + 1
        generator = torch.Generator().manual_seed(seed)
        z = (torch.rand(samples, count, generator=generator, dtype=torch.float64) < 0.5).numpy()
        z[0] = True
        scores = [
            part.f(paper.covered(part.x, found.numpy(), np.flatnonzero(row).tolist(), fill))
            for row in z
        ]
        expected = paper.lime(z.astype(float), np.array(scores), width, ridge)
        np.testing.assert_allclose(of_each(image, found), expected, rtol=1e-8, atol=1e-12)


def test_kernelshap_shares_out_the_score_in_any_sample() -> None:
    size = (16, 16)
    net, x = DeepNet(seed=3), images(2, size=size)
    spec = "kernelshap:samples=60,superpixels=12,compactness=1000,fill=zero"
    maps = raw(net, x, spec, CLASSES)
    assert_live(maps)
    for image, part, found in zip(maps, parts(net, x, CLASSES), labels(x, 12), strict=True):
        assert int(found.max()) >= 7  # more sets than samples
        total = part.f(part.x) - part.f(part.x * 0)
        assert abs(of_each(image, found).sum() - total) < 1e-10


def test_too_few_samples_for_kernelshap_say_so() -> None:
    net, x = DeepNet(seed=3), images(2, size=(16, 16))
    spec = "kernelshap:superpixels=16,compactness=1000,samples="
    for samples, codes in ((8, ["underdetermined"]), (200, [])):
        found = explain(net, x, method=f"{spec}{samples}", target=CLASSES, layers="features")
        assert sorted({issue.code for issue in found.issues}) == codes


def test_one_superpixel_has_the_whole_difference() -> None:
    net, x = DeepNet(seed=3), images(1)
    (part,) = parts(net, x, [1])
    picture = raw(net, x, "kernelshap:superpixels=1,fill=zero")
    expected = part.f(part.x) - part.f(part.x * 0)
    torch.testing.assert_close(picture, torch.full_like(picture, expected))


@pytest.mark.parametrize("name", ["lime", "kernelshap"])
def test_images_with_different_numbers_of_superpixels(name: str) -> None:
    """A smooth and a rough image in one batch: each as it would be alone."""
    x = images(2, size=(16, 16)) / 5
    x[0] = torch.linspace(0, 1, 16, dtype=torch.float64)
    found = labels(x, 10, 30.0)
    assert found[0].max() != found[1].max()
    net, spec = DeepNet(seed=3), f"{name}:superpixels=10,compactness=30,samples=40"
    together = raw(net, x, spec, CLASSES)
    alone = [raw(net, x[i : i + 1], spec, c) for i, c in enumerate(CLASSES)]
    assert_equal(together, torch.cat(alone), 1e-9)


@pytest.mark.parametrize("name", ["lime", "kernelshap"])
def test_a_missing_scikit_image_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(CapabilityError, match=r"scikit-image.*perturbation\[superpixels\]"):
        raw(DeepNet(), images(1), name)


def test_a_missing_scikit_learn_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(CapabilityError, match=r"scikit-learn.*perturbation\[clusters\]"):
        raw(DeepNet(), images(1), "clustercam:clustering=spectral,groups=2")


def test_four_spatial_axes_have_no_superpixels() -> None:
    with pytest.raises(InputError, match="1 to 3 spatial axes"):
        segments(torch.zeros(1, 3, 2, 2, 2, 2), 5, 10.0)


def test_the_seed_draws_the_sample() -> None:
    method: Callable[..., object] = method_class("lime")
    net, x = DeepNet(seed=3), images(1, size=(16, 16))
    one, other = (
        raw(net, x, method(samples=40, superpixels=12, compactness=1000), seed=s) for s in (1, 2)
    )
    assert not torch.allclose(one, other)
