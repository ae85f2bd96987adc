"""The example is short, right, and a good citizen: it is what third parties start from."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import camkit_example
from camkit_core import ChannelsFirst, MethodModel, Registry, TargetError, explain
from camkit_core.testing import parametrize_checks
from camkit_example import plugin
from camkit_example.method import Example
from camkit_example.reshape import Flat
from camkit_example.target import LogOdds

SOURCE = Path(camkit_example.__file__).parent


class GradCam(MethodModel):
    name = "plain"
    needs = Example.needs

    def __call__(self, capture, /) -> Tensor:
        weights = capture.gradients.flatten(2).mean(2)
        return (
            (weights[..., None] * capture.activations.flatten(2))
            .sum(1)
            .reshape(len(weights), *capture.activations.shape[2:])
        )


class FlatNet(nn.Module):
    """Convolution, then positions in a row, as patch embeddings have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.flat = nn.Flatten(2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.conv(x)).tanh().square().mean(2))


@pytest.fixture
def network() -> FlatNet:
    torch.manual_seed(0)
    return FlatNet().double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@parametrize_checks([Example(), Example(keep=0.8), LogOdds(), LogOdds(1), Flat()])
def test_it_conforms(check) -> None:
    check()


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.99, 1])
def test_the_method_is_the_trimmed_mean(network, images, keep) -> None:
    found = explain(network, images, method=Example(keep=keep), target=2, layers="conv").raw["conv"]
    A = network.conv(images).detach().requires_grad_()
    score = network.head(network.flat(A).tanh().square().mean(2))[:, 2].sum()
    (G,) = torch.autograd.grad(score, A)
    for n in range(3):
        wanted = torch.zeros(6, 8, dtype=torch.float64)
        for k in range(4):
            ranked = sorted(G[n, k].flatten().tolist())
            dropped = int(len(ranked) * (1 - keep) / 2)
            middle = ranked[dropped : len(ranked) - dropped]
            assert middle
            wanted += sum(middle) / len(middle) * A[n, k].detach()
        assert wanted.std() > 0
        torch.testing.assert_close(found[n], wanted)


def test_keeping_everything_is_gradcam_and_keeping_half_is_not(network, images) -> None:
    plain, whole, half = (
        explain(network, images, method=method, target=2, layers="conv").raw["conv"]
        for method in (GradCam(), Example(keep=1), Example())
    )
    torch.testing.assert_close(whole, plain)
    assert (half - plain).abs().max() > 0.01 * plain.abs().max()


def test_the_target_is_the_logit_of_the_probability(network, images) -> None:
    found = explain(network, images, method=Example(), target=LogOdds(3), layers="conv")
    chance = network(images).softmax(1)[:, 3].detach()
    torch.testing.assert_close(found.score, (chance / (1 - chance)).log())
    assert found.provenance.target == "odds of class 3"
    with pytest.raises(TargetError, match="one output only"):
        explain(nn.Sequential(network, nn.Linear(5, 1).double()), images, Example(), LogOdds(0))


def test_the_reshape_shows_the_flat_layer_as_the_picture_it_was(network, images) -> None:
    flat = explain(network, images, Example(), 1, "flat", reshape=Flat("6x8")).raw["flat"]
    spatial = explain(network, images, Example(), 1, "conv", reshape=ChannelsFirst()).raw["conv"]
    torch.testing.assert_close(flat, spatial)


def test_the_method_is_at_most_25_lines_of_code() -> None:
    lines = list(_code((SOURCE / "method.py").read_text("utf-8")))
    assert 15 < len(lines) <= 25, "\n".join(lines)


def _code(text: str) -> Iterator[str]:
    """Lines that are neither empty, nor comments, nor docstrings."""
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.strip().startswith("#") and number not in docs:
            yield line


def test_listing_it_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import json, sys; from camkit_example.plugin import camkit_entries; "
        "names = [e.name for e in camkit_entries()]; print(json.dumps([names, list(sys.modules)]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names, modules = json.loads(done.stdout)
    assert names == ["example", "example_odds", "example_flat"]
    assert not {"torch", "numpy", "pydantic"} & set(modules)


def test_it_is_found_where_it_is_installed() -> None:
    registry = Registry(allow=["camkit-example"], strict=True)
    (info,) = [one for one in registry.plugins if one.status == "ok"]
    assert (info.distribution, info.version) == ("camkit-example", camkit_example.__version__)
    assert registry.resolve("method", "example") is Example
    assert registry.target_for("example_odds:3", None, None) == LogOdds(3)
    assert registry.target_for("example_odds", None, None) == LogOdds()
    assert registry.target_for("examples", None, None) is None
    assert plugin.camkit_target_for(281) is None
