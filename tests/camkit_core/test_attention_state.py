"""Opening attention leaves model and process as they were, and calls do not mix."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from core_proof.attention_nets import FORMS, Vit, grid, oracle, pictures
from core_proof.checks import close, same
from core_proof.methods import GradCAM, registry, spy
from core_proof.snapshot import unchanged
from torch.nn import functional as F

from camkit_core import Need, explain

BOTH = Need.ATTENTION | Need.GRADIENTS
CALLS = 12


def gradients(capture):
    return capture.attention[0].gradients.mean((1, 2))[:, capture.grid]


def ask(net, x, target=1, method=None):
    words = {"reshape": grid(), "registry": registry()}
    return explain(net, x, method or spy(gradients, BOTH), target, **words).raw["input"]


def wanted(x, target=1):
    return oracle(Vit(), x, target)[0].gradients.mean((1, 2))[:, 1:].unflatten(1, (3, 5))


@pytest.mark.parametrize("form", FORMS)
def test_model_and_process_are_untouched(form):
    net, x = Vit(FORMS[form]), pictures()
    for index, parameter in enumerate(net.parameters()):
        parameter.grad = torch.full_like(parameter, 0.5) if index % 2 else None
        parameter.requires_grad_(index % 3 != 0)
    net.blocks[0].attn.train()
    with unchanged(net, x):
        found = ask(net, x)
    close(found, wanted(x))


def test_also_when_something_raises():
    class Boom(Exception):
        pass

    def boom(*args):
        raise Boom

    for attend in (boom, F.scaled_dot_product_attention):
        net, x = Vit(), pictures()
        net.blocks[1].attn.attend = attend
        target = 1 if attend is boom else boom
        with unchanged(net, x), pytest.raises(Boom):
            ask(net, x, target)
    with unchanged(net, x), pytest.raises(Boom):
        ask(net, x, method=spy(lambda capture: capture.attention and boom(), BOTH))


def test_no_mode_is_on_unless_a_method_asks_for_attention():
    seen = []

    def noting(q, k, v):
        seen.append(len(torch.overrides._get_current_function_mode_stack()))
        return F.scaled_dot_product_attention(q, k, v)

    net, x = Vit(noting), pictures()
    explain(net, x, GradCAM(), 1, "blocks.0", reshape=grid(), registry=registry())
    assert seen == [0, 0]
    ask(net, x)
    assert seen == [0, 0, 1, 1]


def test_the_mode_sees_its_own_thread_only():
    """Another thread runs the same model plainly while this one has attention open."""
    inside, done = threading.Event(), threading.Event()

    def slow(q, k, v):
        if threading.current_thread() is threading.main_thread():
            inside.set()
            assert done.wait(20)
        else:
            assert not torch.overrides._get_current_function_mode_stack()
        return F.scaled_dot_product_attention(q, k, v)

    net, x = Vit(slow), pictures()
    plain = Vit()(x).detach()

    def beside():
        assert inside.wait(20)
        try:
            return net(x).detach()
        finally:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(beside)
        close(ask(net, x), wanted(x))
        same(other.result(), plain)


def test_many_threads_on_one_model():
    net = Vit()
    jobs = [(pictures(seed=seed), seed % 5) for seed in range(CALLS)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: ask(net, *job), jobs))
    for one, (x, target) in zip(found, jobs, strict=True):
        close(one, wanted(x, target))


def test_a_call_within_a_call():
    net, x, other = Vit(), pictures(), pictures(seed=3)

    class Asking(Vit):
        """Explains another model in the middle of its own forward pass."""

        def finish(self, tokens):
            close(ask(net, other, 2), wanted(other, 2))
            return super().finish(tokens)

    close(ask(Asking(), x), wanted(x))

    def target(output):
        close(ask(net, other, 2), wanted(other, 2))
        return output[1]

    close(ask(net, x, target), wanted(x))


def test_a_call_past_the_module_tree():
    class Listed(Vit):
        def forward(self, x):
            tokens = self.embed(x)
            for block in self.steps:
                tokens = block(tokens)
            return self.finish(tokens)

    net, x = Listed(), pictures()
    object.__setattr__(net, "steps", list(net.blocks))
    with unchanged(net, x):
        found = ask(net, x, method=spy(weights, Need.ATTENTION))
    close(found, by_oracle(x))


def weights(capture):
    return capture.attention[0].weights.mean((1, 2)).flatten(1)[:, 1:].unflatten(1, (3, 5))


def by_oracle(x):
    return oracle(Vit(), x, 1)[0].weights.mean((1, 2))[:, 1:].unflatten(1, (3, 5))


def test_nothing_is_kept():
    net, x = Vit(), pictures()
    ask(net, x)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
        for _ in range(3):
            ask(net, x)
        after = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
    finally:
        gc.enable()
    assert after <= before, f"{after - before} tensors wait for the garbage collector"
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None
