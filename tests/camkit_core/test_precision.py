"""Precision, memory layout and autocast change the map by rounding only."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same, telling
from core_proof.methods import HiRes, registry, spy
from core_proof.networks import Chain, gradcam, images, of_class, split
from torch import nn

from camkit_core import INPUT, Need, explain


def ask(net, x, method="gradcam", **words):
    return explain(net, x, method, 1, "body", registry=registry(), **words)


@pytest.fixture
def exact():
    return gradcam(*split(Chain(), images(), "body", of_class(1)))


def alike(found, wanted):
    """Correlation of each map with its reference."""
    pairs = zip(telling(found).flatten(1).double(), telling(wanted).flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])


def test_float32_is_float64_up_to_rounding(exact):
    found = ask(Chain().float(), images(dtype=torch.float32))
    assert found.raw["body"].dtype == torch.float32
    close(found.raw["body"], exact, 1e-5)


def test_float64_is_kept(exact):
    found = ask(Chain(), images())
    assert found.raw["body"].dtype == found.maps.dtype == torch.float64


@pytest.mark.parametrize("method", ["gradcam", "hires", "mean"])
def test_autocast_of_the_caller_is_close_to_float32_and_answers_in_float32(method):
    net, x = Chain(width=16).float(), images(dtype=torch.float32)
    plain = ask(net, x, method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ask(net, x, method)
        assert torch.is_autocast_enabled("cpu")
    assert found.output.dtype == torch.bfloat16
    assert found.raw["body"].dtype == found.maps.dtype == torch.float32
    assert not torch.equal(found.raw["body"], plain.raw["body"]), "autocast did nothing"
    assert float(alike(found.raw["body"], plain.raw["body"]).min()) > 0.995
    close(found.raw["body"], plain.raw["body"], 0.05)


def test_autocast_of_the_caller_does_not_round_the_arithmetic_of_the_method():
    net, x = Chain(width=16).float(), images(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = ask(net, x, HiRes(gain=1.0 + 2.0**-12)).raw["body"]
        plain = ask(net, x, HiRes()).raw["body"]
    close(raw, plain * (1 + 2.0**-12), 1e-6)
    assert not torch.equal(raw, plain)


def test_matrix_products_of_a_method_or_target_are_not_rounded_by_the_callers_autocast():
    net, x = Chain(width=16).float(), images(dtype=torch.float32)

    def product(capture):
        flat = capture.activations.flatten(2)
        gram = flat.transpose(1, 2) @ flat
        assert gram.dtype == torch.float32
        return gram.sum(1).reshape(2, 4, 5)

    def target(out):
        score = out @ out
        assert score.dtype == torch.float32
        return score

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explain(net, x, spy(product, Need.ACTIVATIONS), target, "body", registry=registry())
        kept = explain(
            net,
            x,
            spy(lambda c: c.activations.sum(1), Need.ACTIVATIONS),
            0,
            "body",
            post="raw",
            registry=registry(),
        )
    assert found.maps.dtype == kept.maps.dtype == torch.float32
    torch.testing.assert_close(found.score, found.output.float().square().sum(1))


class Casting(Chain):
    """Autocast inside the model's own forward."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


def test_autocast_inside_the_model_is_the_same_as_around_the_call():
    x = images(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = ask(Chain().float(), x)
    same(ask(Casting().float(), x).raw["body"], around.raw["body"])


@pytest.mark.parametrize(("dtype", "loss"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
@pytest.mark.parametrize("method", ["gradcam", "hires"])
def test_half_models_give_the_map_of_their_float32_twin(dtype, loss, method):
    net = Chain(width=16).to(dtype)
    x = images(dtype=torch.float32).to(dtype)
    found, wanted = ask(net, x, method), ask(Chain(width=16).to(dtype).float(), x.float(), method)
    assert found.raw["body"].dtype == torch.float32
    assert found.output.dtype == dtype
    assert found.provenance.dtype == str(dtype).removeprefix("torch.")
    close(found.raw["body"], wanted.raw["body"], loss)
    assert float(alike(found.raw["body"], wanted.raw["body"]).min()) > 0.99


def test_half_input_gradients_are_given_in_float32():
    net, x = Chain(width=16).bfloat16(), images(dtype=torch.bfloat16)
    found = ask(net, x, "saliency").raw[INPUT]
    assert found.dtype == torch.float32
    wanted = ask(Chain(width=16).bfloat16().float(), x.float(), "saliency").raw[INPUT]
    close(found, wanted, 0.1)


@pytest.mark.parametrize("which", ["input", "model", "both"])
def test_channels_last_gives_the_same_map(which, exact):
    net, x = Chain(), images()
    if which != "model":
        x = x.to(memory_format=torch.channels_last)
    if which != "input":
        net = net.to(memory_format=torch.channels_last)
    found = ask(net, x)
    close(found.raw["body"], exact)
    assert found.maps.is_contiguous()


def test_an_expanded_or_sliced_input_gives_the_same_map_as_its_copy():
    net, base = Chain(), images(1)
    views = {
        "expanded": base.expand(3, -1, -1, -1),
        "reversed": torch.cat([base, base])[::2],
        "transposed": base.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for x in views.values():
        close(ask(net, x).raw["body"], ask(net, x.clone()).raw["body"])


def test_a_mixed_model_keeps_the_precision_of_each_layer():
    class Mixed(Chain):
        def finish(self, a):
            return super().finish(a.float())

    net = Mixed(width=16).bfloat16()
    net.head.float()
    found = ask(net, images(dtype=torch.bfloat16))
    assert found.output.dtype == torch.float32
    assert isinstance(net.head, nn.Linear)
    telling(found.raw["body"])
