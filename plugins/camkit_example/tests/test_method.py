"""camkit's own checks on the method, and its equation, slowly."""

from __future__ import annotations

import torch
from torch import nn

from camkit_core import explain
from camkit_core.testing import parametrize_checks
from camkit_example.method import Example


@parametrize_checks([Example(), Example(keep=0.9)])
def test_conforms(check) -> None:
    check()


def test_the_equation() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).double()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    A = network[0](image).detach().requires_grad_()
    (G,) = torch.autograd.grad(network[1:](A)[0, 2], A)
    wanted = torch.zeros(6, 6, dtype=torch.float64)
    for k in range(4):
        middle = sorted(G[0, k].flatten().tolist())[9:27]  # half of the 36 positions
        wanted += sum(middle) / 18 * A[0, k].detach()
    found = explain(network, image, method=Example(), target=2, layers="0")
    assert wanted.std() > 0
    torch.testing.assert_close(found.raw["0"][0], wanted)
