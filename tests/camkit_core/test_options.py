"""Options of methods and words of the engine, right and wrong."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import GradCAM, HiRes, registry, spy
from core_proof.networks import Chain, images
from core_proof.plugins import entry, offering
from torch import nn

from camkit_core import (
    AmbiguousNameError,
    CapabilityError,
    Explainer,
    MethodModel,
    Need,
    OptionError,
    UnknownNameError,
    compare,
    explain,
)


def ask(method="hires", **words):
    words.setdefault("registry", registry())
    return explain(Chain(), images(), method, 1, "body", **words)


def test_options_are_given_as_arguments_in_the_spec_or_on_an_instance():
    one = ask("hires", gain=2.0, rectify=True)
    two = ask("hires:gain=2.0,rectify=true")
    mixed = ask("hires:gain=2.0", rectify=True)
    three = ask(HiRes(gain=2.0, rectify=True))
    for found in (two, mixed, three):
        same(found.raw["body"], one.raw["body"])
        assert found.provenance.parameters == {"gain": 2.0, "rectify": True}
    assert bool((one.raw["body"] >= 0).all())
    close(ask("hires", gain=2.0).raw["body"], 2 * ask("hires").raw["body"])


def test_a_method_that_is_not_registered_works_as_an_instance():
    class Mine(MethodModel):
        name = "mine"
        needs = Need.ACTIVATIONS
        power: int = 1

        def __call__(self, capture, /):
            return capture.activations.pow(self.power).mean(1)

    found = ask(Mine(power=2))
    close(found.raw["body"], Chain().until("body", images()).square().mean(1).detach())
    assert found.provenance.method == "mine"
    assert found.provenance.version == "unregistered"
    assert ask("hires").provenance.package == "proof"


def test_a_method_may_be_any_object_of_that_shape():
    class Plain:
        name, needs = "plain", Need.ACTIVATIONS

        def __call__(self, capture, /):
            return capture.activations.sum(1)

    close(ask(Plain()).raw["body"], Chain().until("body", images()).sum(1).detach())


WRONG = {
    "a typo": ({"gian": 2}, r"method hires has no option 'gian'; did you mean 'gain'"),
    "unknown": ({"zzz": 2}, r"no option 'zzz' \(it has gain, rectify\)"),
    "a word": ({"gain": "much"}, "method hires: gain='much'.*valid number"),
    "a list": ({"gain": [1]}, r"gain=\[1\]"),
    "none": ({"rectify": None}, "rectify=None"),
    "two at once": ({"gain": "a", "rectify": 3}, "gain='a'.*rectify=3"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_option_is_refused_in_one_line(kind):
    options, words = WRONG[kind]
    with pytest.raises(OptionError, match=words) as caught:
        ask("hires", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["hires:gian=2", "hires:gain=much", "gradcam:gain=1"])
def test_a_wrong_option_in_a_spec_is_refused_too(spec):
    with pytest.raises(OptionError):
        ask(spec)
    with pytest.raises(OptionError):
        compare(Chain(), images(), ["gradcam", spec], [1], "body", registry=registry())


def test_a_method_without_options_says_so():
    with pytest.raises(OptionError, match=r"gradcam has no option 'gain' \(it has no options\)"):
        ask("gradcam", gain=2)


def test_an_option_given_twice_is_refused():
    with pytest.raises(OptionError, match="'gain' is given in 'hires:gain=2' and as an argument"):
        ask("hires:gain=2", gain=2)
    with pytest.raises(OptionError, match="'gain' is given twice"):
        ask("hires:gain=2,gain=3")


def test_options_beside_an_instance_are_refused():
    with pytest.raises(OptionError, match=r"options \['gain'\] go with a method's name"):
        ask(HiRes(), gain=2)


@pytest.mark.parametrize("method", [HiRes, GradCAM])
def test_a_class_instead_of_an_instance_is_refused_with_a_guess(method):
    with pytest.raises(OptionError, match="did you forget the parentheses"):
        ask(method)


@pytest.mark.parametrize("method", [3, None, ["hires"], lambda capture: None])
def test_what_is_no_method_is_refused(method):
    with pytest.raises(OptionError, match="a name, a spec string or an instance"):
        ask(method)


def test_an_unknown_method_answers_with_near_misses():
    with pytest.raises(UnknownNameError, match="'hirez'; did you mean 'hires'"):
        ask("hirez")


def test_an_ambiguous_method_is_named_with_its_distribution():
    ref, needs = "core_proof.methods:HiRes", ("activations", "gradients")
    other = offering(entry("hires", kind="method", ref=ref, needs=needs))
    reg = registry(("other-dist", other))
    with pytest.raises(AmbiguousNameError, match="proof/hires, other-dist/hires"):
        ask("hires", registry=reg)
    same(ask("other-dist/hires", registry=reg).maps, ask("hires").maps)
    same(ask("proof/hires:gain=1", registry=reg).maps, ask("hires").maps)


WORDS = {
    "memory in words": ({"batch_size": "much"}, OptionError, "batch_size='much'.*'512MB'"),
    "no memory": ({"batch_size": "0MB"}, OptionError, "batch_size='0MB'"),
    "precision unknown": ({"precision": "best"}, OptionError, "'exact' or 'fast'"),
    "no batch size": ({"batch_size": 0}, OptionError, "batch_size=0 must be a positive"),
    "half a batch": ({"batch_size": 2.5}, OptionError, "batch_size=2.5"),
    "negative budget": ({"budget": -1}, OptionError, "budget=-1"),
    "budget in words": ({"budget": "much"}, OptionError, "budget='much'"),
    "post": ({"post": "pretty"}, OptionError, "post='pretty'"),
    "output": ({"output": "logits"}, OptionError, "output='logits'"),
}


@pytest.mark.parametrize("kind", WORDS)
def test_a_wrong_word_of_the_engine_is_refused(kind):
    words, error, said = WORDS[kind]
    with pytest.raises(error, match=said):
        ask("hires", **words)


@pytest.mark.parametrize("kind", [k for k in WORDS if k != "output"])
def test_a_wrong_word_is_refused_before_the_model_runs(kind):
    def never(x):
        raise AssertionError("the model ran")

    net = Chain()
    net.forward = never
    words, error, _ = WORDS[kind]
    with pytest.raises(error):
        explain(net, images(), "hires", 1, "body", registry=registry(), **words)


@pytest.mark.parametrize("methods", ["gradcam", [], ()])
def test_a_comparison_wants_a_list_of_methods(methods):
    with pytest.raises(OptionError, match="non-empty list of methods"):
        compare(Chain(), images(), methods, registry=registry())


@pytest.mark.parametrize("model", [lambda x: x, "resnet18", None, 3, nn.Linear])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(OptionError, match=r"model must be an nn.Module or a LoadedModel.*got"):
        Explainer(model)


def test_a_comparison_is_keyed_by_method_as_given_and_position_of_the_target():
    instance = HiRes(gain=3.0)
    methods, targets = ["gradcam", "hires:gain=2", instance], [3, "pred"]
    found = compare(Chain(), images(), methods, targets, "body", registry=registry())
    assert list(found) == [(m, t) for t in range(2) for m in methods]
    assert len(found) == 6
    assert found["hires:gain=2", 0].provenance.parameters["gain"] == 2
    close(found[instance, 1].raw["body"], 1.5 * found["hires:gain=2", 1].raw["body"])
    with pytest.raises(KeyError):
        found["hires", 0]


def test_the_same_method_twice_is_refused_because_it_is_one_key():
    for twice in (["hires", "hires"], [HiRes(), GradCAM(), HiRes()]):
        with pytest.raises(OptionError, match="given twice; results are keyed by method"):
            compare(Chain(), images(), twice, [0], "body", registry=registry())
    found = compare(Chain(), images(), ["hires", HiRes()], [0], "body", registry=registry())
    assert len(found) == 2


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (lambda c: c.activations, r"returned \[2, 6, 4, 5\] at body"),
        (lambda c: c.activations.mean(), r"returned \[\]"),
        (lambda c: c.activations[:1].sum(1), r"returned \[1, 4, 5\]"),
        (lambda c: None, "returned NoneType"),
        (lambda c: c.activations.sum(1).tolist(), "returned list"),
    ],
)
def test_a_method_that_returns_no_map_is_refused(look, said):
    with pytest.raises(CapabilityError, match=rf"method spy {said}.*\[N, \*S\] with N = 2"):
        ask(spy(look, Need.ACTIVATIONS))


def test_a_method_that_reads_one_layer_of_all_is_told_how():
    method = spy(lambda c: c.activations.sum(1), Need.ACTIVATIONS | Need.LAYERS)
    with pytest.raises(CapabilityError, match=r"has all of them; use capture\[layer\]"):
        ask(method)


def test_maps_of_a_method_that_keeps_a_graph_are_detached():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def look(capture):
        with torch.enable_grad():
            return (capture.activations * weight).sum(1)

    found = ask(spy(look, Need.ACTIVATIONS))
    assert not found.maps.requires_grad
    assert not found.raw["body"].requires_grad
