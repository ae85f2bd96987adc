"""How requests reach plugins, and how what they answer is described."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from core_proof.methods import GradCAM, registry
from core_proof.networks import CLASSES, Chain, images
from core_proof.plugins import module

from camkit_core import (
    CallableTarget,
    ClassTarget,
    Explainer,
    LoadedModel,
    PerImageTarget,
    Picture,
    Prepared,
    TargetError,
    TargetInfo,
    compare,
    explain,
    probe_layers,
)
from camkit_core.requests import named
from camkit_core.testing import ConformanceError, check_target

NAMES = ("tabby, tabby cat", "tiger cat", "lynx", "Egyptian cat", "dog")


class Boxed(Chain):
    """Scores that are not `[N, K]`."""

    def finish(self, a):
        return super().finish(a)[:, :, None]


def loaded(net=None, **words) -> LoadedModel:
    words = {"model": net or Chain(), "class_names": NAMES, **words}
    return LoadedModel(spec="mine", weights="random", preprocess=None, **words)


class Asked:
    """A plugin that notes what it was asked and explains channel 0."""

    def __init__(self, answer=True):
        self.requests, self.contexts, self.outputs = [], [], []

        def target_for(request, output, context):
            self.requests.append(request)
            self.outputs.append(output)
            self.contexts.append(context)
            return CallableTarget(lambda out: out.flatten()[0]) if answer else None

        self.registry = registry(("asked", module("asked", camkit_target_for=target_for)))


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (None, "pred"),
        ("pred", "pred"),
        (" pred ", "pred"),
        ("pred:0", "pred"),
        ("pred:2", "pred:2"),
        (3, 3),
        ("3", 3),
        ("lynx", 2),
        ("Tiger cat", 1),
        ("some words", "some words"),
    ],
)
def test_where_there_are_no_class_scores_plugins_are_asked(request_, asked):
    plugin = Asked()
    found = explain(
        loaded(Boxed()), images(), target=request_, layers="body", registry=plugin.registry
    )
    assert plugin.requests == [asked]
    assert torch.equal(found.score, found.output.flatten(1)[:, 0])


@pytest.mark.parametrize("request_", [None, "pred", "pred:1", 3, "lynx", [1, "pred"]])
def test_where_there_are_class_scores_they_are_not(request_):
    plugin = Asked()
    explain(loaded(), images(), target=request_, layers="body", registry=plugin.registry)
    assert plugin.requests == []


@pytest.mark.parametrize("request_", [None, "pred:1", 3])
def test_if_nobody_answers_the_error_is_that_of_the_scores(request_):
    plugin = Asked(answer=False)
    with pytest.raises(TargetError, match=r"class scores must be \[N, K\]"):
        explain(Boxed(), images(), target=request_, layers="body", registry=plugin.registry)
    assert len(plugin.requests) == 1


def test_ranks_are_words_too():
    order = Chain()(images()).argsort(1, descending=True)
    for rank in range(CLASSES):
        found = explain(Chain(), images(), GradCAM(), f"pred:{rank}", "body", registry=registry())
        assert torch.equal(found.target.classes, order[:, rank])
    with pytest.raises(TargetError, match="rank 6 was asked for, but the model has 5 classes"):
        explain(Chain(), images(), GradCAM(), "pred:5", "body", registry=registry())


def test_plugins_spread_top_k_as_well():
    plugin = Asked()
    compare(Boxed(), images(), ["gradcam"], "top3", "body", registry=plugin.registry)
    assert plugin.requests == ["pred", "pred:1", "pred:2"]


def test_plugins_see_the_model_the_images_and_the_names():
    plugin, model, x = Asked(), loaded(Boxed(), class_ids=("n1",)), images()
    picture = Picture("photo", None)
    prepared = Prepared(x, (picture, picture))
    found = Explainer(model, "body", registry=plugin.registry).explain(prepared, target="it")
    (context,) = plugin.contexts
    assert context.model is model.model
    assert context.loaded is model
    assert context.class_names == NAMES
    assert context.pictures == (picture, picture)
    assert torch.equal(context.image, x)
    assert torch.equal(plugin.outputs[0], found.output)
    assert not plugin.outputs[0].requires_grad


def test_plugins_are_asked_in_the_same_way_where_the_layer_is_looked_for():
    plugin, model, x = Asked(), loaded(Boxed()), images()
    explain(model, x, target="it", registry=plugin.registry)
    first, second = plugin.contexts
    assert (first.model, first.loaded, first.class_names) == (
        second.model, second.loaded, second.class_names
    )  # fmt: skip
    assert torch.equal(first.image, second.image)
    bare = Asked()
    probe_layers(Boxed(), x, "it", registry=bare.registry, class_names=["a", "b"])
    assert bare.contexts[0].class_names == ("a", "b")
    assert bare.contexts[0].loaded is None


class Reference:
    """Similarity to what the model says of another image."""

    def __init__(self, image):
        self.image = image

    def bind(self, output, run):
        other = run(self.image)
        return CallableTarget(lambda out: (out * other[0]).sum())


def test_a_target_that_runs_the_model_finds_its_layer_by_running_it_too():
    net, other = Chain(), images(1, seed=5)
    report = probe_layers(net, images(), Reference(other))
    assert report.forwards == 2
    assert probe_layers(net, images()).forwards == 1
    found = explain(Chain(), images(), GradCAM(), Reference(other))
    assert found.provenance.layers == (report.default,)
    assert found.provenance.forwards == 4  # both once for the layer and once for the map


@pytest.mark.parametrize("word", ["place:1", "place:2"])
def test_layers_that_were_found_are_remembered_for_the_same_words_only(word):
    asked = []

    def target_for(request):
        asked.append(request)
        return ClassTarget(int(request[-1]))

    reg = registry(("p", module("p", camkit_target_for=target_for)))
    net = Chain()
    for request in ("place:1", "place:2", word):
        explain(net, images(), target=request, registry=reg)
    assert asked == ["place:1"] * 2 + ["place:2"] * 2 + [word]


# --- one target per image ---------------------------------------------------------------------


class Fussy:
    """Refuses images other than the one it was made for."""

    def __init__(self, image):
        self.image = image

    def bind(self, output, run):
        if not torch.equal(output, self.image):
            raise TargetError("another image")
        return ClassTarget(1).bind(output, run)


def test_each_of_several_targets_sees_its_own_image_only():
    scores = Chain()(images(3)).detach()
    targets = PerImageTarget(tuple(Fussy(row[None]) for row in scores))
    bound = targets.bind(scores, None)
    rows = torch.arange(20.0).reshape(4, 5)
    assert bound(rows, torch.tensor([2, 0, 1, 2])).tolist() == [1.0, 6.0, 11.0, 16.0]
    assert bound.describe().classes.tolist() == [1, 1, 1]


# --- conformance ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corner:
    """A target that needs an argument, and an output that is a picture."""

    place: int

    def bind(self, output, run):
        if not isinstance(output, torch.Tensor):
            raise TargetError("pictures are expected")
        return self

    def __call__(self, output, owner):
        return output[:, 0, self.place, self.place]

    def describe(self):
        return TargetInfo(kind="corner", label="corner")

    @classmethod
    def example(cls):
        return cls(-1), images(3)


def test_targets_with_an_example_are_checked_on_it():
    report = check_target(Corner)
    assert report.count("failed") == 0
    assert report.count("passed") >= 8
    assert "explains" not in [row.check for row in report.rows if row.status == "passed"]
    with pytest.raises(TypeError, match="place"):
        check_target(type("Bare", (Corner,), {"example": None}))


def test_an_output_that_is_given_goes_before_the_example():
    with pytest.raises(ConformanceError):
        check_target(Corner(7), output=images(3))


# --- names ------------------------------------------------------------------------------------


def info(*labels: str, label: str = "") -> TargetInfo:
    return TargetInfo(kind="k", label=label or ", ".join(dict.fromkeys(labels)), labels=labels)


NAMED = {
    "class 1": "tiger cat",
    "class 0": "tabby, tabby cat",
    "probability of class 0": "probability of tabby",
    "class 1 vs class 0, class 4": "tiger cat vs tabby, dog",
    "class 5": "class 5",
    "class 10 over class 1": "class 10 over tiger cat",
    "subclass 1": "subclass 1",
    "class 1x": "class 1x",
    '"class 1" and class 1': '"class 1" and tiger cat',
    "": "",
}


@pytest.mark.parametrize("label", NAMED)
def test_classes_in_labels_get_their_names(label):
    assert named(info(label=label), NAMES).label == NAMED[label]
    assert named(info(label=label), ()).label == label


def test_labels_of_images_are_joined_again():
    found = named(info("class 1", "class 0", "class 1"), NAMES)
    assert found.labels == ("tiger cat", "tabby, tabby cat", "tiger cat")
    assert found.label == "tiger cat, tabby, tabby cat"


def test_a_label_of_its_own_is_kept_beside_those_of_the_images():
    found = named(info("class 1", "class 2", label="two of class 4"), NAMES)
    assert found.labels == ("tiger cat", "lynx")
    assert found.label == "two of dog"


def test_unknown_words_are_answered_with_the_targets_there_are():
    from core_proof.plugins import entry, offering

    reg = registry(("p", offering(entry("halo", kind="target"), entry("glow", kind="target"))))
    for names, said in (
        (NAMES, r"no class is called 'haloo'.*besides classes there are the targets glow, halo"),
        ((), r"'haloo'; did you mean 'halo'.*targets glow, halo"),
    ):
        with pytest.raises(TargetError, match=said):
            explain(
                loaded(class_names=names), images(), target="haloo", layers="body", registry=reg
            )
