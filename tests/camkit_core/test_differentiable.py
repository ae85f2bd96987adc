"""Maps that carry the graph to the model's parameters: losses on maps in a training loop."""

from __future__ import annotations

import pickle

import pytest
import torch
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import Chain, images
from torch import nn

from camkit_core import CapabilityError, Need, compare, explain

REG = registry()


class Small(nn.Module):
    """Smooth, with everything a derivative of a derivative needs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.below = nn.Conv2d(3, 4, 3, padding=1)
        self.layer = nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)
        self.double().eval()

    def forward(self, x):
        return self.head(self.layer(self.below(x).tanh()).tanh().mean((2, 3)))


def pixels(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 6, 7, generator=torch.Generator().manual_seed(1)).double()


def loss_of(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A loss on the raw HiRes map, written without camkit."""
    a = net.layer(net.below(x).tanh())
    score = net.head(a.tanh().mean((2, 3)))[:, 1]
    (g,) = torch.autograd.grad(score.sum(), a, create_graph=True)
    return ((a * g).sum(1) ** 2).mean() + score.mean()


def test_the_gradient_of_a_loss_on_the_map_is_that_of_plain_autograd():
    net, x = Small(), pixels()
    found = explain(net, x, HiRes(), 1, "layer", registry=REG, differentiable=True)
    loss = (found.raw["layer"] ** 2).mean() + found.score.mean()
    mine = torch.autograd.grad(loss, list(net.parameters()))
    wanted = torch.autograd.grad(loss_of(net, x), list(net.parameters()))
    for one, other in zip(mine, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_it_is_the_derivative_of_the_map_as_finite_differences_see_it():
    net, x = Small(), pixels(1)

    def energy() -> torch.Tensor:
        return (
            explain(net, x, HiRes(), 1, "layer", registry=REG, differentiable=True, post="raw")
            .maps.pow(2)
            .sum()
        )

    (slope,) = torch.autograd.grad(energy(), net.below.weight)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(2)).double()
    step, before = 1e-5, net.below.weight.detach().clone()
    with torch.no_grad():
        net.below.weight.copy_(before + step * direction)
        up = energy().detach()
        net.below.weight.copy_(before - step * direction)
        down = energy().detach()
    torch.testing.assert_close(
        (slope * direction).sum(), (up - down) / (2 * step), rtol=1e-6, atol=0
    )


def test_a_few_steps_of_training_move_the_map_where_it_is_wanted():
    net, x = Small(), pixels()
    wanted = torch.zeros(2, 6, 7, dtype=torch.float64)
    wanted[:, :, :3] = 1
    optimizer = torch.optim.Adam(net.parameters(), 0.02)

    def inside(maps: torch.Tensor) -> torch.Tensor:
        return (maps * wanted).sum() / maps.sum().clamp_min(1e-9)

    before = inside(explain(net, x, HiRes(), 1, "layer", registry=REG).maps)
    for _ in range(40):
        optimizer.zero_grad()
        found = explain(net, x, HiRes(), 1, "layer", registry=REG, differentiable=True)
        (1 - inside(found.maps)).backward()
        optimizer.step()
    after = inside(explain(net, x, HiRes(), 1, "layer", registry=REG).maps)
    assert after > before + 0.2


def test_output_and_score_carry_the_graph_too_and_values_stay_the_same():
    net, x = Small(), pixels()
    plain = explain(net, x, HiRes(), 1, "layer", registry=REG)
    found = explain(net, x, HiRes(), 1, "layer", registry=REG, differentiable=True)
    torch.testing.assert_close(found.maps.detach(), plain.maps, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.output.detach(), plain.output)
    assert found.output.requires_grad
    assert found.score.requires_grad
    assert not plain.maps.requires_grad
    assert not plain.output.requires_grad


def test_several_targets_share_the_pass():
    net, x = Small(), pixels()
    found = compare(net, x, [HiRes()], [0, 1, 2], "layer", registry=REG, differentiable=True)
    total = sum(one.raw["layer"].sum() for one in found.values())
    assert torch.autograd.grad(total, net.below.weight)[0].abs().sum() > 0


def test_frozen_models_and_callers_without_gradients_work():
    net, x = Small().requires_grad_(False), pixels()
    with torch.no_grad():
        found = explain(net, x, HiRes(), 1, "layer", registry=REG, differentiable=True)
    assert not torch.isnan(found.maps).any()


def test_a_method_that_runs_again_is_refused():
    again = spy(lambda capture: capture.activations.sum(1), Need.ACTIVATIONS | Need.SCORES)
    with pytest.raises(CapabilityError, match=r"spy needs scores.*e\.g\. gradcam"):
        explain(Chain(), images(), again, 1, "body", registry=REG, differentiable=True)


def test_without_the_graph_it_can_be_pickled_and_shown():
    found = explain(Small(), pixels(), HiRes(), 1, "layer", registry=REG, differentiable=True)
    again = pickle.loads(pickle.dumps(found))
    free = found.detach()
    for one in (again, free):
        assert not any(t.requires_grad for t in (one.maps, one.raw["layer"], one.score, one.output))
        torch.testing.assert_close(one.maps, found.maps.detach())
    assert free.detach() is free
    assert found.maps.requires_grad
