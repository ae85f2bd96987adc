"""Class scores are found in whatever a model returns, or asked for."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import registry
from core_proof.networks import Chain, gradcam, images, of_class, split

from camkit_core import OptionError, TargetError, class_scores, explain

Pair = namedtuple("Pair", "logits features")


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: Any = None


class Bag(OrderedDict):
    """A mapping with attributes, as transformer libraries return it."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Wrapped(Chain):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.wrap = wrap

    def finish(self, a):
        return self.wrap(super().finish(a), a)


FOUND = {
    "tensor": lambda y, a: y,
    "dict with one tensor": lambda y, a: {"prediction": y},
    "dict with logits": lambda y, a: {"hidden": a, "logits": y},
    "dict with out": lambda y, a: OrderedDict(aux=a, out=y),
    "tuple of one": lambda y, a: (y,),
    "tuple with indices": lambda y, a: (y.argmax(1), y),
    "list of one": lambda y, a: [y],
    "named tuple": lambda y, a: Pair(y, a),
    "dataclass": lambda y, a: Answer(y, a),
    "bag": lambda y, a: Bag(loss=None, logits=y, hidden=a),
    "nested": lambda y, a: {"head": (y, None, "text")},
}


@pytest.mark.parametrize("kind", FOUND)
def test_class_scores_are_found_in_the_usual_containers(kind):
    net, x = Wrapped(FOUND[kind]), images()
    found = explain(net, x, target=[2, 0], layers="body", registry=registry())
    close(found.raw["body"], gradcam(*split(Chain(), x, "body", of_class([2, 0]))))
    assert type(found.output) is type(net(x))


NAMED = {
    "key": (lambda y, a: {"a": a, "b": y}, "b"),
    "index": (lambda y, a: (a, y), 1),
    "last": (lambda y, a: [a, y], -1),
    "attribute": (lambda y, a: Answer(a, y), "hidden"),
    "object": (lambda y, a: SimpleNamespace(scores=y), "scores"),
    "function": (lambda y, a: ((a, (y, a)),), lambda out: out[0][1][0]),
    "beats the usual name": (lambda y, a: {"logits": -3 * y, "mine": y}, "mine"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_the_part_named_by_output_is_explained(kind):
    wrap, selector = NAMED[kind]
    net, x = Wrapped(wrap), images()
    found = explain(net, x, target=3, layers="body", output=selector, registry=registry())
    close(found.raw["body"], gradcam(*split(Chain(), x, "body", of_class(3))))
    same(found.score, Chain()(x).detach()[:, 3])


@pytest.mark.parametrize("selector", ["nothing", 7])
def test_an_output_that_is_not_there_is_refused_with_what_there_is(selector):
    net = Wrapped(lambda y, a: {"left": y, "right": a})
    with pytest.raises(OptionError, match=rf"output={selector!r}.*left: tensor \[2, 5\].*right"):
        explain(net, images(), target=0, layers="body", output=selector, registry=registry())


def test_two_candidates_are_refused_with_how_to_say_which():
    net = Wrapped(lambda y, a: (y, 2 * y))
    with pytest.raises(TargetError, match=r"tuple\(tensor \[2, 5\], tensor.*unclear.*output="):
        explain(net, images(), target=0, layers="body", registry=registry())


def test_an_object_without_tensors_is_refused():
    net = Wrapped(lambda y, a: "cat")
    with pytest.raises(TargetError, match=r"returned str.*class scores"):
        explain(net, images(), layers="body", registry=registry())


class Dense(Chain):
    """One score per class and pixel."""

    def finish(self, a):
        return torch.einsum("nchw,kc->nkhw", a, self.head.weight)


@pytest.mark.parametrize("target", [None, 1, "pred", [0, 1]])
def test_a_dense_output_needs_an_explicit_target(target):
    with pytest.raises(TargetError, match=r"\[N, K\].*\[2, 5, 4, 5\].*target=lambda out: out\[3\]"):
        explain(Dense(), images(), target=target, layers="body", registry=registry())


def test_a_dense_output_is_explained_by_a_function_of_one_images_output():
    net, x = Dense(), images(3)
    found = explain(
        net, x, target=lambda out: out[2, 1:3].mean(), layers="body", registry=registry()
    )
    wanted = split(net, x, "body", lambda out: out[:, 2, 1:3].flatten(1).mean(1))
    close(found.raw["body"], gradcam(*wanted))


class Single(Chain):
    def finish(self, a):
        return super().finish(a)[:, 2:3]


@pytest.mark.parametrize("target", [None, "pred"])
def test_one_output_has_no_predicted_class(target):
    with pytest.raises(TargetError, match=r"\[2, 1\].*no predicted class.*target=0"):
        explain(Single(), images(), target=target, layers="body", registry=registry())


def test_one_output_is_explained_by_its_index():
    x = images()
    found = explain(Single(), x, target=0, layers="body", registry=registry())
    close(found.raw["body"], gradcam(*split(Chain(), x, "body", of_class(2))))


class Flat(Chain):
    def finish(self, a):
        return super().finish(a)[:, 2]


def test_an_output_without_class_axis_is_refused_and_explained_by_a_function():
    x = images()
    with pytest.raises(TargetError, match=r"\[N, K\].*\[2\]"):
        explain(Flat(), x, target=0, layers="body", registry=registry())
    found = explain(Flat(), x, target=lambda out: out, layers="body", registry=registry())
    close(found.raw["body"], gradcam(*split(Chain(), x, "body", of_class(2))))


def test_class_scores_take_the_only_floating_tensor():
    scores = torch.eye(3)
    assert class_scores({"ids": torch.arange(3), "x": scores}) is scores
