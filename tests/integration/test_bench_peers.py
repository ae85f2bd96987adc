"""The benchmark of methods that run the model again measures the same thing twice."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.perturbation import ROWS, Row, ours, theirs


class Small(nn.Module):
    """Rectified features, and scores that are not affine in them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("method", ["ablationcam:variant=grad-cam", "scorecam:variant=grad-cam"])
def test_both_compute_the_same_map(method: str) -> None:
    torch.manual_seed(4)
    net, image = Small().double().eval(), torch.rand(1, 3, 32, 32, dtype=torch.float64)
    peer = {"ablationcam": "AblationCAM", "scorecam": "ScoreCAM"}[method.partition(":")[0]]
    row = Row(name="small", title="", model="", layer="features", method=method, peer=peer)
    wanted = theirs(row, net, image)
    assert wanted.max() > 0
    np.testing.assert_allclose(ours(row, net, image).maps.numpy(), wanted, atol=1e-5)


def test_every_row_names_a_class_of_the_peer() -> None:
    assert all(hasattr(pytorch_grad_cam, row.peer) for row in ROWS)
