"""Float32 on the best device there is agrees with float64 on the CPU, and stays on the device."""

from __future__ import annotations

import pytest
import torch
from gradient_proof.checks import as_double, assert_live
from gradient_proof.device import DEVICE
from gradient_proof.family import EVERY_UNSEEDED, network
from gradient_proof.networks import images

from camkit_core import compare, explain


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    """TF32 would hide disagreement in the model's own convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@EVERY_UNSEEDED
def test_the_device_agrees_with_the_cpu(name: str) -> None:
    net, x = network(name), images(3)
    wanted = explain(net, x, method=name, target=1, layers="features")
    net, x = net.float().to(DEVICE), x.float().to(DEVICE)
    found = explain(net, x, method=name, target=1, layers="features")
    for layer, maps in found.raw.items():
        assert maps.device.type == found.maps.device.type == found.score.device.type == DEVICE
        assert_live(wanted.raw[layer])
        scale = wanted.raw[layer].abs().max()
        assert (as_double(maps.cpu()) - wanted.raw[layer]).abs().max() <= 1e-4 * scale


def test_random_numbers_come_from_the_device_and_repeat() -> None:
    net, x = network("random").float().to(DEVICE), images(2).float().to(DEVICE)
    first, again, other = (
        explain(net, x, method="random", layers="features", seed=seed).raw["features"]
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


def test_several_targets_on_the_device_equal_single_calls() -> None:
    net, x = network("gradcam").float().to(DEVICE), images(2).float().to(DEVICE)
    together = compare(net, x, ["gradcam", "eigengradcam"], [0, 1, 2], layers="features")
    for (method, position), explanation in together.items():
        alone = explain(net, x, method=method, target=position, layers="features")
        torch.testing.assert_close(explanation.maps, alone.maps, rtol=0, atol=1e-4)
