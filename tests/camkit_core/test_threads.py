"""Many calls at once on one model give the maps of one thread."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from core_proof.checks import same, telling
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import Explainer, Need, compare, explain

CALLS = 40
LAYERS = ("stem", "body", "neck")


class Normed(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6).double()
        self.drop = nn.Dropout(0.5)
        self.eval()

    def finish(self, a):
        return super().finish(self.drop(self.norm(a)))


class Listed(Normed):
    """Called past the module tree, so that every call sets hooks on the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [getattr(self, name) for name in self.order]

    def forward(self, x):
        for step in self.steps:
            x = self.act(step(x))
        return self.finish(x)


def job(index):
    """Input, target and layer of one call; neighbours differ in all three."""
    return images(2, seed=index), index % 5, LAYERS[index % 3]


def in_threads(call, threads):
    """Results of `call(index)`, all threads starting at once."""
    gate = threading.Barrier(threads)

    def worker(first):
        gate.wait()
        return {index: call(index) for index in range(first, CALLS, threads)}

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(worker, range(threads)))
    return {index: found for part in parts for index, found in part.items()}


MODELS = {
    "eval": lambda: Normed(),
    "train": lambda: Normed().train(),
    "past the tree": lambda: Listed(),
}


@pytest.fixture(autouse=True)
def _threads_take_turns_often():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("threads", [2, 4])
def test_every_call_has_the_map_it_has_alone(model, threads):
    net, reg = MODELS[model](), registry()

    def call(index):
        x, target, layer = job(index)
        return explain(net, x, "hires", target, layer, registry=reg).raw[layer]

    alone = {index: telling(call(index)) for index in range(CALLS)}
    with unchanged(net):
        together = in_threads(call, threads)
    for index in range(CALLS):
        same(together[index], alone[index])


@pytest.mark.parametrize("model", ["eval", "train"])
def test_one_explainer_serves_several_threads(model):
    explainer = Explainer(MODELS[model](), "body", registry=registry())

    def call(index):
        x, target, _ = job(index)
        found = explainer.compare(x, ["gradcam", "mean", "hires"], [target, 0])
        return torch.stack([one.raw["body"] for one in found.values()])

    alone = {index: call(index) for index in range(CALLS)}
    together = in_threads(call, 3)
    for index in range(CALLS):
        same(together[index], alone[index])


def test_different_grad_modes_in_different_threads_do_not_mix():
    net, reg = Normed(), registry()
    modes = (torch.no_grad, torch.inference_mode, torch.enable_grad)

    def call(index):
        x, target, layer = job(index)
        with modes[index % 3]():
            found = explain(net, x, "hires", target, layer, registry=reg)
            assert torch.is_grad_enabled() == (index % 3 == 2)
        return found.raw[layer]

    alone = {index: call(index) for index in range(CALLS)}
    together = in_threads(call, 4)
    for index in range(CALLS):
        same(together[index], alone[index])


def test_the_default_layer_is_found_once_or_more_but_always_the_same():
    net, reg = Normed(), registry()
    found = in_threads(lambda i: explain(net, job(i)[0], registry=reg).provenance.layers, 4)
    assert set(found.values()) == {("norm",)}


def test_training_in_one_thread_and_explaining_in_another_do_not_disturb_each_other():
    net, reg = Normed(), registry()
    net.train()
    x, stop, errors = images(4), threading.Event(), []

    def train():
        try:
            while not stop.is_set():
                net.zero_grad()
                net(x).sum().backward()
                assert net.stem.weight.grad is not None
                assert net.training
        except Exception as error:
            errors.append(error)

    frozen = {name: p.detach().clone() for name, p in net.named_parameters()}
    thread = threading.Thread(target=train)
    thread.start()
    try:
        for index in range(15):
            found = explain(net, job(index)[0], "mean", 0, "body", registry=reg)
            alone = Chain().until("body", job(index)[0]).mean(1).detach()
            torch.testing.assert_close(found.raw["body"], alone, rtol=1e-12, atol=1e-14)
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert all(torch.equal(p, frozen[name]) for name, p in net.named_parameters())


class Meeting(Normed):
    """Stays in `finish` for as long as the test wants, each thread on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list = [{}]

    def finish(self, a):
        self.waits[0].get(threading.current_thread().name, lambda: None)()
        return super().finish(a)


class ListedMeeting(Meeting, Listed):
    """The same, called past the module tree."""


def overlapping(net, call, forward=1):
    """Two calls: the first enters, the second enters, the first leaves, the second leaves.

    They meet in the given forward of each call.
    """
    seen = Counter()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    errors = []

    def stay(name, enter, leave):
        seen[name] += 1
        if seen[name] == forward:
            enter.set()
            assert leave.wait(20)

    def work(done):
        try:
            call()
        except Exception as error:
            errors.append(error)
        finally:
            done.set()

    net.waits[0] = {
        "first": lambda: stay("first", first_in, second_in),
        "second": lambda: stay("second", second_in, first_out),
    }
    first = threading.Thread(target=work, args=(first_out,), name="first")
    second = threading.Thread(target=work, args=(threading.Event(),), name="second")
    first.start()
    assert first_in.wait(20)
    second.start()
    first.join(30)
    second.join(30)
    assert errors == []


SECOND = spy(
    lambda c: (c.gradients + c.hvp(c.activations)).sum(1),
    Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER,
)


@pytest.fixture
def _switches():
    """Every switch as at the start, whatever an earlier test left."""
    torch.compiler.set_stance("default")
    for name in ("math", "flash", "mem_efficient"):
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(True)


@pytest.mark.usefixtures("_switches")
@pytest.mark.parametrize("method", ["hires", "saliency", SECOND], ids=["first", "input", "second"])
@pytest.mark.parametrize("kind", ["eval", "train", "past the tree"])
def test_overlapping_calls_put_process_wide_switches_back(kind, method):
    net = ListedMeeting() if kind == "past the tree" else Meeting().train(kind == "train")
    reg, x = registry(), images()
    with unchanged(net, x):
        overlapping(
            net,
            lambda: explain(net, x, method, 1, "body", registry=reg),
            2 if kind == "past the tree" and method != "saliency" else 1,
        )


class BackwardMeeting(Meeting):
    """The calls meet in the backward pass."""

    def finish(self, a):
        wait = self.waits[0].get(threading.current_thread().name, lambda: None)
        if a.requires_grad:
            a.register_hook(lambda gradient: wait())
        return Normed.finish(self, a)


@pytest.mark.usefixtures("_switches")
@pytest.mark.parametrize("targets", [[1], [0, 1, 2]], ids=["one target", "three targets"])
def test_overlapping_backward_passes_put_process_wide_switches_back(targets):
    net, reg, x = BackwardMeeting(), registry(), images()
    with unchanged(net, x):
        overlapping(net, lambda: compare(net, x, ["hires"], targets, "neck", registry=reg))


def test_comparing_in_threads_equals_comparing_alone():
    net, reg = Normed().train(), registry()

    def call(index):
        x, target, layer = job(index)
        found = compare(net, x, ["gradcam", "saliency"], [target], [layer], registry=reg)
        return torch.stack([one.maps for one in found.values()])

    alone = {index: call(index) for index in range(CALLS)}
    together = in_threads(call, 2)
    for index in range(CALLS):
        same(together[index], alone[index])
