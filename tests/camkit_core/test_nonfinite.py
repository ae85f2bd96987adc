"""NaN and infinity are refused, and the message says where they came from."""

from __future__ import annotations

import math

import pytest
import torch
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images

from camkit_core import Need, NonFiniteError, compare, explain

BAD = [math.nan, math.inf, -math.inf]


def ask(net, x, method="gradcam", target=1, layers="body", **words):
    return explain(net, x, method, target, layers, registry=registry(), **words)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("method", ["gradcam", "mean", "saliency"])
def test_an_image_that_is_not_finite_is_refused_before_the_model_runs(value, method):
    def never(x):
        raise AssertionError("the model ran")

    net, x = Chain(), images(3)
    net.forward = never
    x[1, 2, 0, 3] = x[2, 0, 0, 0] = value
    with pytest.raises(NonFiniteError, match=r"2 NaN or infinite.*first at index \[1, 2, 0, 3\]"):
        ask(net, x, method)


class Spoiled(Chain):
    """One layer multiplies by a value that is not finite."""

    def __init__(self, where: str, value: float) -> None:
        super().__init__()
        with torch.no_grad():
            getattr(self, where).weight[0] = value


@pytest.mark.parametrize("where", ["stem", "body", "neck", "head"])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("method", ["gradcam", "hires"])
def test_the_first_layer_that_is_not_finite_is_named(where, value, method):
    with pytest.raises(NonFiniteError, match=f"first in layer '{where}'"):
        ask(Spoiled(where, value), images(), method, target=0)


@pytest.mark.parametrize("where", ["stem", "body"])
def test_a_method_that_only_reads_activations_names_the_layer_too(where):
    with pytest.raises(NonFiniteError, match=f"first in layer '{where}'"):
        ask(Spoiled(where, math.nan), images(), "mean")


def test_one_bad_image_in_a_batch_is_enough():
    class Overflowing(Chain):
        def act(self, z):
            return super().act(z) / (z.abs().amax((1, 2, 3), keepdim=True) > 1e-3)

    x = images(3)
    net = Overflowing()
    net.stem.bias.data.zero_()
    x[1] = 0
    with pytest.raises(NonFiniteError, match=r"NaN or infinity"):
        ask(net, x)


@pytest.mark.parametrize("value", BAD)
def test_a_score_that_is_not_finite_is_shown_with_the_target(value):
    def target(out):
        return out[0] * value

    target.__name__ = "spoiled"
    with pytest.raises(NonFiniteError, match=r"score of 'spoiled' is \["):
        ask(Chain(), images(), target=target)


@pytest.mark.parametrize("value", BAD)
def test_a_score_that_is_not_finite_is_refused_even_where_no_map_shows_it(value):
    def target(out):
        return out[0] + value

    target.__name__ = "shifted"
    with pytest.raises(NonFiniteError, match="score of 'shifted' is"):
        ask(Chain(), images(), target=target)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("layers", ["body", ["stem", "body"]])
def test_a_method_that_makes_non_finite_values_is_named(value, layers):
    def look(capture):
        raw = capture.activations.sum(1)
        raw[-1, -1, -1] = value
        return raw

    method = spy(look, Need.ACTIVATIONS, "divider")
    with pytest.raises(NonFiniteError, match=r"method divider gave NaN.*model is finite"):
        ask(Chain(), images(), method, layers=layers)


def test_a_comparison_names_the_method_that_failed():
    bad = spy(lambda c: c.activations.sum(1) * math.nan, Need.ACTIVATIONS, "spoiler")
    with pytest.raises(NonFiniteError, match="method spoiler"):
        compare(Chain(), images(), ["gradcam", bad], [0, 1], "body", registry=registry())


def test_gradients_that_overflow_are_not_hidden():
    class Steep(Chain):
        def finish(self, a):
            return super().finish(a) * 1e300 * 1e300 * 0 + (super().finish(a) * 1e200).square()

    with pytest.raises(NonFiniteError):
        ask(Steep(), images())


def test_an_unused_layer_that_is_not_finite_does_no_harm():
    class Spare(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.spare = torch.nn.Conv2d(3, 2, 1).double()
            self.spare.weight.data.fill_(math.nan)

        def forward(self, x):
            self.spare(x)
            return super().forward(x)

    found, wanted = ask(Spare(), images()), ask(Chain(), images())
    assert torch.equal(found.maps, wanted.maps)
