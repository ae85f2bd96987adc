"""DeepLIFT's multipliers: what slow loops give, in every spelling of a function."""

from __future__ import annotations

import math

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import CLASSES, fill, images
from core_proof.secants import (
    EXACT,
    NEEDS,
    Net,
    adds_up,
    ask,
    matrix,
    scored,
    slow_maxima,
    slow_secants,
)
from core_proof.snapshot import unchanged
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from camkit_core import Need, explain


def relu(x):
    return max(x, 0.0)


def gelu(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def slowly(net, a, low, pool, target):
    """Multipliers of relu, convolution, gelu, pooling, linear, tanh, linear for one image."""
    stages = [
        lambda t: t.clamp_min(0),
        net.conv,
        lambda t: t * (1 + torch.erf(t / math.sqrt(2))) / 2,
        lambda t: F.max_pool2d(t, *pool),
        lambda t: net.hidden(t.mean((2, 3))),
        torch.tanh,
        net.head,
    ]
    with torch.no_grad():
        new, old = [a[None]], [low[None]]
        for stage in stages:
            new.append(stage(new[-1]))
            old.append(stage(old[-1]))
        shape = [(value, value) for value in (*pool, 1)]
        m = net.head.weight[target].detach()
        m = slow_secants(math.tanh, new[5][0], old[5][0], m)
        m = (matrix(stages[4], new[4][0]).T @ m).reshape(new[4][0].shape)
        m = slow_maxima(new[3][0], old[3][0], m, *shape)
        m = slow_secants(gelu, new[2][0], old[2][0], m)
        m = (matrix(net.conv, new[1][0]).T @ m.flatten()).reshape(new[1][0].shape)
        return slow_secants(relu, new[0][0], old[0][0], m)


def functional(pool):
    return lambda net, a: scored(net, F.max_pool2d(F.gelu(net.conv(F.relu(a))), *pool))


def modules(pool):
    gelu_, pool_ = nn.GELU(), nn.MaxPool2d(*pool)
    return lambda net, a: scored(net, pool_(gelu_(net.conv(net.relu(a)))), nn.Tanh())


def in_place(pool):
    def rest(net, a):
        hidden = net.hidden(F.max_pool2d(F.gelu(net.conv(net.writing(a))), *pool).mean((2, 3)))
        return net.head(hidden.tanh_())

    return rest


@pytest.mark.parametrize("spelling", [functional, modules, in_place], ids=lambda f: f.__name__)
@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 1), (3, 1, 0)], ids=str)
def test_every_spelling_is_what_slow_loops_give(spelling, pool):
    net, x = Net(spelling(pool)), images(2)
    with unchanged(net, x):
        m, a, low, found = ask(net, x, baseline=0.3)
    wanted = torch.stack([slowly(net, *pair, pool, 1) for pair in zip(a, low, strict=True)])
    close(m, wanted, EXACT)
    adds_up(net, (m, a, low, found))
    assert "1 relu, 1 gelu, 1 max_pool2d, 1 tanh" in found.provenance.notes[-1]


SIGNED = {
    "relu": F.relu,
    "relu_": lambda z: z.clone().relu_(),
    "torch.relu": torch.relu,
    "clamp": lambda z: z.clamp(min=0.1),
    "clamp_": lambda z: (z + 0).clamp_(max=0.1),
    "relu6": lambda z: F.relu6(20 * z),
    "relu6 in place": lambda z: F.relu6(20 * z, inplace=True),
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "leaky_relu in place": lambda z: F.leaky_relu(z + 0, 0.2, inplace=True),
    "prelu": lambda z: F.prelu(z, torch.tensor([0.3]).to(z)),
    "rrelu_": lambda z: F.threshold(z, 0.1, -1.0),
    "elu": F.elu,
    "elu in place": lambda z: F.elu(z + 0, inplace=True),
    "selu": F.selu,
    "celu in place": lambda z: F.celu(z + 0, inplace=True),
    "gelu": F.gelu,
    "gelu by tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "silu in place": lambda z: F.silu(z + 0, inplace=True),
    "mish": F.mish,
    "mish in place": lambda z: F.mish(z + 0, inplace=True),
    "sigmoid": torch.sigmoid,
    "sigmoid_": lambda z: (z + 0).sigmoid_(),
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softsign by parts": lambda z: 1 / (1 + z.abs()),
    "softshrink": lambda z: F.softshrink(z, 0.1),
    "hardshrink": lambda z: F.hardshrink(z, 0.1),
    "tanhshrink": F.tanhshrink,
    "hardswish": lambda z: F.hardswish(9 * z),
    "hardswish in place": lambda z: F.hardswish(9 * z, inplace=True),
    "hardsigmoid": lambda z: F.hardsigmoid(9 * z),
    "exp": torch.exp,
    "square": lambda z: z**2,
    "sine": torch.sin,
    "scripted": lambda z: torch.jit.script(nn.SiLU())(z),
}
POSITIVE = {
    "log": torch.log,
    "sqrt": torch.sqrt,
    "cube root": lambda z: z.pow(1 / 3),
    "learned power": lambda z: z.pow(torch.tensor(1.7).to(z)),
    "inverse root": torch.rsqrt,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("act", [*SIGNED.values(), *POSITIVE.values()], ids=[*SIGNED, *POSITIVE])
def test_functions_of_one_value_are_their_secants(act):
    """Behind one function and a linear layer the multiplier is known without any chain."""
    positive = act in POSITIVE.values()

    def shifted(a):
        return torch.sigmoid(a) if positive else a

    class Flat(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, z: net.flat(act(z).flatten(1)))
            self.flat = nn.Linear(4 * 70, CLASSES)
            self.gate = nn.Sigmoid() if positive else nn.Identity()
            fill(self)

        def forward(self, x):
            return self.rest(self, self.gate(self.layer(x)))

    net = Flat()
    m, a, low, _ = ask(net, images(2), baseline=0.45, layer="gate")
    torch.testing.assert_close(a, shifted(net.layer(images(2))).detach())
    with torch.no_grad():
        secant = (act(a.clone()) - act(low.clone())) / (a - low)
    wanted = net.flat.weight[1].reshape(a.shape[1:]).detach() * secant
    close(m, wanted, 1e-8)


class Pooled(nn.Module):
    """A pooling of a layer in one, two or three dimensions, and a linear layer."""

    def __init__(self, dims, pool) -> None:
        super().__init__()
        self.layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](3, 2, 3, padding=1)
        self.pool = pool
        fill(self)
        with torch.no_grad():
            self.count = pool(self.layer(images(1, dims))).flatten(1).shape[1]
        self.head = nn.Linear(self.count, CLASSES)
        fill(self)
        self.eval()

    def forward(self, x):
        return self.head(self.pool(self.layer(x)).flatten(1))


POOLS = {
    "halves": (2, nn.MaxPool2d(2), (2, 2), (2, 2), (0, 0)),
    "overlapping": (2, nn.MaxPool2d(3, 2, 1), (3, 3), (2, 2), (1, 1)),
    "every place": (2, nn.MaxPool2d((3, 2), 1), (3, 2), (1, 1), (0, 0)),
    "line": (1, nn.MaxPool1d(3, 2), (3,), (2,), (0,)),
    "volume": (3, nn.MaxPool3d(2, 1), (2, 2, 2), (1, 1, 1), (0, 0, 0)),
    "adaptive": (2, nn.AdaptiveMaxPool2d((7, 2)), (1, 5), (1, 5), (0, 0)),
    "adaptive line": (1, nn.AdaptiveMaxPool1d(1), (23,), (1,), (0,)),
}


@pytest.mark.parametrize(("dims", "pool", "kernel", "stride", "padding"), POOLS.values(), ids=POOLS)
def test_max_pooling_is_what_slow_loops_give(dims, pool, kernel, stride, padding):
    net = Pooled(dims, pool)
    *_, low, _ = ask(net, images(2, dims), baseline=0.2)
    low += torch.randn(low.shape, generator=torch.Generator().manual_seed(3)).to(low)
    m, a, low, _ = ask(net, images(2, dims), baseline=low)
    behind = net.head.weight[1].detach().reshape(pool(a).shape[1:])
    ones = (1,) * dims
    wanted = [
        slow_maxima(new, old, behind, kernel, stride, padding, ones)
        for new, old in zip(a, low, strict=True)
    ]
    close(m, torch.stack(wanted), EXACT)
    change = (net.head(pool(a).flatten(1)) - net.head(pool(low).flatten(1)))[:, 1]
    torch.testing.assert_close(((a - low) * m).flatten(1).sum(1), change.detach())


def filled(net, a):
    buffer = a.new_zeros(len(a), 8, *a.shape[2:])
    buffer[:, :4] = F.relu(a)
    buffer[:, 4:].copy_(F.silu(net.conv(a)))
    return scored(net, buffer[:, 2:6])


# --- what holds ------------------------------------------------------------------------------

DEEP = {
    "a function twice": lambda net, a: scored(net, net.relu(net.conv(net.relu(a)))),
    "written twice": lambda net, a: scored(net, net.writing(net.conv(net.writing(a)))),
    "a skip": lambda net, a: scored(net, F.relu(a) + net.conv(a)),
    "a skip that is added to": lambda net, a: scored(net, F.gelu(net.conv(a)).add_(a)),
    "branches": lambda net, a: scored(net, torch.cat([F.relu(a), F.gelu(-a)], 1)[:, 2:6]),
    "a branch nobody reads": lambda net, a: (F.relu(net.conv(a)), scored(net, F.silu(a)))[1],
    "batch norm": lambda net, a: scored(net, F.relu(net.norm(net.conv(a)))),
    "dropout in eval mode": lambda net, a: scored(net, F.dropout(F.relu(a), 0.5, net.training)),
    "images on the second axis": lambda net, a: scored(
        net, F.relu(a.movedim(0, 1) * 2 - 1).movedim(1, 0)
    ),
    "images folded away": lambda net, a: scored(net, F.relu(a.flatten(0, 1)).reshape(a.shape)),
    "generalized mean": lambda net, a: net.head(
        net.hidden(a.clamp(min=0.1).pow(3).mean((2, 3)).pow(1 / 3))
    ),
    "a buffer that is filled": filled,
    "checkpoints": lambda net, a: scored(
        net, checkpoint(lambda z: F.gelu(net.conv(F.relu(z))), a, use_reentrant=False)
    ),
    "half of it written": lambda net, a: scored(
        net, torch.cat([F.relu(a[:, :2]), F.relu_(a[:, 2:] + 0)], 1)
    ),
}


@pytest.mark.parametrize("rest", DEEP.values(), ids=DEEP)
def test_contributions_add_up_to_the_change_of_the_score(rest):
    net, x = Net(rest), images(3)
    with unchanged(net, x):
        found = ask(net, x, baseline=0.2)
    adds_up(net, found)


def test_images_do_not_take_part_in_one_another():
    net, x = Net(functional((3, 2, 1))), images(3)
    together = ask(net, x, target=[1, 0, 4])[0]
    for image, target in enumerate((1, 0, 4)):
        alone = ask(net, x[image : image + 1], target=target)[0]
        close(together[image : image + 1], alone, EXACT)


def test_behind_what_is_affine_they_are_the_gradient():
    net = Net(lambda net, a: net.head(net.hidden(net.norm(net.conv(a)).mean((2, 3)))))
    seen = {}

    def look(capture):
        low = torch.full_like(capture.activations, 7.0)
        seen["secant"], seen["gradient"] = capture.multipliers(low), capture.gradients
        seen["affine"] = capture.affine
        return capture.activations.sum(1)

    explain(net, images(2), spy(look, NEEDS | Need.GRADIENTS), 1, "layer", registry=registry())
    close(seen["secant"], seen["gradient"], EXACT)
    close(seen["secant"], seen["affine"], EXACT)


def test_without_a_change_they_are_the_gradient_and_near_it_almost():
    net, x = Net(functional((2, 2, 0))), images(2)
    a = net.layer(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.rest(net, a)[:, 1].sum(), a)
    for step, tolerance in ((0.0, EXACT), (1e-13, 1e-9), (1e-5, 1e-3)):
        close(ask(net, x, baseline=a.detach() - step)[0], gradient, tolerance)


def test_scores_may_be_functions_of_one_output():
    net = Net(functional((2, 2, 0)))
    m, a, low, found = ask(net, target=lambda out: torch.sigmoid(out[2]))
    change = torch.sigmoid(net.rest(net, a)[:, 2]) - torch.sigmoid(net.rest(net, low)[:, 2])
    torch.testing.assert_close(((a - low) * m).flatten(1).sum(1), change.detach())
    torch.testing.assert_close(found.score, torch.sigmoid(net.rest(net, a)[:, 2]).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(dtype):
    wanted, *_ = ask(Net(functional((3, 2, 1))), baseline=0.5)
    found, *_ = ask(Net(functional((3, 2, 1))).to(dtype), images(2, dtype=dtype), baseline=0.5)
    assert found.dtype == torch.float32
    allowed = {torch.float32: 2e-3, torch.bfloat16: 0.3}[dtype]
    gap = (found.double() - wanted).abs().mean()
    assert gap < allowed * wanted.abs().mean()


def test_autocast():
    net, x = Net(functional((2, 2, 0))).float(), images(2, dtype=torch.float32)
    wanted, *_ = ask(net, x, baseline=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found, *_ = ask(net, x, baseline=0.5)
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().mean() < 0.3 * wanted.abs().mean()


def test_pictures_whose_channels_lie_last():
    def rest(net, a):
        pooled = F.adaptive_avg_pool2d(F.max_pool2d(F.relu(net.conv(a)), 3, 2), 1)
        return net.head(torch.tanh(net.hidden(pooled.flatten(1))))

    plain, last = Net(rest), Net(rest).to(memory_format=torch.channels_last)
    x = images(2)
    found = ask(last, x.to(memory_format=torch.channels_last))[0]
    close(found, ask(plain, x)[0], EXACT)


def test_it_costs_two_runs_and_one_backward_pass():
    net = Net(functional((2, 2, 0)))
    *_, found = ask(net)
    # The trial of the tail takes one forward and three runs.
    assert (found.provenance.tails, found.provenance.backwards) == (3 + 2, 1)
    ask_again = ask(net)[3]
    assert (ask_again.provenance.tails, ask_again.provenance.forwards) == (2, 1)


class ReadsBack(Net):
    """Cannot be run from the layer on."""

    def __init__(self) -> None:
        super().__init__(functional((2, 2, 0)))
        self.stem = nn.Conv2d(3, 3, 1)
        fill(self)

    def forward(self, x):
        x = self.stem(x)
        self.stem.seen = x
        y = self.rest(self, self.layer(x))
        return y + self.stem.seen.mean()


def same_rest(net):
    twin = Net(net.rest)
    twin.load_state_dict({k: v for k, v in net.state_dict().items() if "stem" not in k})
    return twin


def test_where_the_rest_cannot_run_alone_the_whole_model_does():
    net = ReadsBack()
    net(images(1))
    del net.stem.seen
    m, *_, found = ask(net)
    assert [issue.code for issue in found.issues] == ["slow_tail"]
    close(m, ask(same_rest(net), net.stem(images(2)).detach())[0], EXACT)
