"""Looking names up: near misses, what to install, ambiguity, lazy references."""

from __future__ import annotations

import sys

import pytest
from core_proof.methods import HiRes, registry
from core_proof.plugins import Png, entry, module, offering

from camkit_core import (
    AmbiguousNameError,
    Entry,
    LoadedModel,
    ModelError,
    PluginError,
    Registry,
    UnknownNameError,
)


def build(*plugins, **words):
    return Registry(discover=False, plugins=list(plugins), strict=True, **words)


@pytest.fixture
def two():
    """Two distributions that both offer `same`."""
    return build(
        ("Zeta", offering(entry("same", ref="json:dumps"), entry("zeta"))),
        ("alpha", offering(entry("same", ref="json:loads"), entry("other", aliases=("o_t",)))),
    )


def test_an_ambiguous_name_lists_the_qualified_ones_and_nothing_is_overwritten(two):
    with pytest.raises(AmbiguousNameError, match=r"target 'same'.*zeta/same, alpha/same"):
        two.find("target", "same")
    with pytest.raises(AmbiguousNameError):
        two.resolve("target", "same")
    assert not two.has("target", "same")


def test_names_that_clash_are_listed_with_what_still_works(two):
    assert two.clashes == (
        "target 'same' is offered by several plugins: use zeta/same or alpha/same",
    )
    assert build(("a", offering(entry("x")))).clashes == ()


def test_what_is_blocked_is_said_to_be_installed():
    plugin = ("camkit-tasks", offering(entry("margin")))
    with pytest.raises(
        UnknownNameError, match="camkit-tasks is installed, but blocked: see CAMKIT"
    ):
        build(plugin, block=["camkit-tasks"]).find("target", "margin")


@pytest.mark.parametrize("spelled", ["alpha/same", "Alpha/same", "ALPHA/same"])
def test_a_qualified_name_is_never_ambiguous(two, spelled):
    import json

    assert two.resolve("target", spelled) is json.loads
    assert two.resolve("target", "zeta/same") is json.dumps
    assert two.has("target", spelled)


@pytest.mark.parametrize("name", ["zeta/other", "nobody/same", "/same", "alpha/"])
def test_a_qualified_name_of_another_distribution_is_unknown(two, name):
    with pytest.raises(UnknownNameError):
        two.find("target", name)


def test_the_same_name_of_another_kind_is_not_ambiguous():
    found = build(("a", offering(entry("x"))), ("b", offering(entry("x", kind="metric"))))
    assert found.find("target", "x").distribution == "a"
    assert found.find("metric", "x").distribution == "b"


def test_an_alias_finds_its_entry_and_is_listed_once(two):
    assert two.find("target", "o_t").name == "other"
    assert two.find("target", "alpha/o_t").name == "other"
    assert [e.name for e in two.entries()] == ["other", "same", "same", "zeta"]


def test_an_alias_that_is_another_plugins_name_is_ambiguous():
    found = build(("a", offering(entry("x", aliases=("y",)))), ("b", offering(entry("y"))))
    with pytest.raises(AmbiguousNameError, match="a/x, b/y"):
        found.find("target", "y")


def test_entries_are_sorted_by_kind_name_and_distribution(two):
    assert [(e.name, e.distribution) for e in two.entries("target")] == [
        ("other", "alpha"), ("same", "alpha"), ("same", "zeta"), ("zeta", "zeta")
    ]  # fmt: skip
    assert two.entries("method") == ()


@pytest.mark.parametrize(
    ("asked", "near"), [("hirez", "'hires'"), ("HIRES", "'hires'"), ("salency", "'saliency'")]
)
def test_an_unknown_name_answers_with_near_misses(asked, near):
    with pytest.raises(UnknownNameError, match=rf"no method is called '{asked}'.*mean {near}"):
        registry().find("method", asked)


@pytest.mark.parametrize(
    ("kind", "name", "extra"),
    [
        ("method", "layercam", "gradient"),
        ("writer", "npz", "render"),
        ("renderer", "overlay", "render"),
        ("model family", "torchvision", "tasks"),
    ],
)
def test_a_known_name_that_is_not_installed_says_what_to_install(kind, name, extra):
    with pytest.raises(UnknownNameError, match=rf'pip install "camkit\[{extra}\]"'):
        registry().find(kind, name)


def test_a_name_like_nothing_says_so_without_a_guess():
    with pytest.raises(UnknownNameError) as caught:
        registry().find("method", "qqqqqqqq")
    assert str(caught.value) == "no method is called 'qqqqqqqq'"


def test_near_misses_know_names_that_are_not_installed():
    with pytest.raises(UnknownNameError, match="did you mean 'layercam'"):
        registry().find("method", "layrcam")


def test_unknown_and_ambiguous_names_are_lookup_errors_and_plugin_errors(two):
    for name in ("same", "nothing"):
        with pytest.raises(LookupError) as caught:
            two.find("target", name)
        assert isinstance(caught.value, PluginError)


def test_a_reference_is_imported_on_first_use_only():
    sys.modules.pop("wave", None)
    found = build(("lazy", offering(entry("late", ref="wave:open"))))
    found.find("target", "late")
    found.entries()
    assert "wave" not in sys.modules
    import wave

    assert found.resolve("target", "late") is wave.open
    assert found.resolve("target", "late") is found.resolve("target", "lazy/late")


@pytest.mark.parametrize(
    "ref", ["no_such_module_anywhere:x", "json:no_such_function", "json:loads.deeper"]
)
def test_a_reference_to_nothing_names_the_entry_its_distribution_and_the_reference(ref):
    found = build(("lost", offering(entry("late", ref=ref))))
    with pytest.raises(PluginError, match=rf"target 'late' of lost.*{ref}.*Error"):
        found.resolve("target", "late")


def method_entry(**words):
    return Entry(
        **{
            "kind": "method",
            "name": "hires",
            "ref": "core_proof.methods:HiRes",
            "needs": ("activations", "gradients"),
            **words,
        }
    )


def test_an_entry_that_agrees_with_its_class_is_resolved():
    assert build(("x", offering(method_entry()))).resolve("method", "hires") is HiRes
    swapped = method_entry(needs=("gradients", "activations"))
    assert build(("x", offering(swapped))).resolve("method", "hires") is HiRes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"name": "other"}, "name 'other'"),
        ({"needs": ("activations",)}, "needs"),
        ({"needs": ()}, "needs"),
        ({"needs": ("activations", "gradients", "tail")}, "needs.*tail"),
        ({"ref": "json:loads"}, "name 'hires'"),
    ],
)
def test_an_entry_that_contradicts_its_class_is_refused(words, said):
    wrong = method_entry(**words)
    with pytest.raises(PluginError, match=rf"x/{wrong.name}: its entry says {said}.*otherwise"):
        build(("x", offering(wrong))).resolve("method", wrong.name)


def test_an_entry_made_from_its_class_agrees_with_it():
    made = Entry.of(HiRes, aliases=("gradient_times_activation",))
    assert made.needs == ("activations", "gradients")
    assert made.summary == "Gradient times activation, with a gain."
    found = build(("x", offering(made)))
    assert found.resolve("method", "gradient_times_activation") is HiRes


def test_a_writer_is_found_by_suffix_in_any_case():
    made = entry("png", kind="writer", ref="core_proof.plugins:Png", suffixes=(".png", ".apng"))
    found = build(("w", offering(made)))
    assert isinstance(found.writer_for(".PNG"), Png)
    with pytest.raises(UnknownNameError, match=r"installed writes '\.gif'; known: .apng, .png"):
        found.writer_for(".gif")
    with pytest.raises(UnknownNameError, match=r"files without suffix.*|camkit\[render\]"):
        build().writer_for("")


def test_the_first_plugin_that_understands_a_model_loads_it():
    loaded = LoadedModel(model=None, spec="mine:x", weights="random", preprocess=None)
    plugins = [
        ("no", module("a", camkit_load_model=lambda spec: None)),
        ("yes", module("b", camkit_load_model=lambda spec: loaded if spec == "mine:x" else None)),
        ("fewer", module("c", camkit_reshape_for=lambda output: None)),
    ]
    found = build(*plugins)
    assert found.load_model("mine:x") is loaded
    with pytest.raises(ModelError, match=r"no plugin understands the model 'other'.*torchvision:"):
        found.load_model("other")


def test_without_model_families_a_failed_load_says_what_to_install():
    with pytest.raises(ModelError, match=r'install "camkit\[tasks\]"'):
        build().load_model("torchvision:resnet18")


def test_behaviour_hooks_get_what_they_ask_for_and_none_means_not_mine():
    asked = []
    plugin = module(
        "p",
        camkit_reshape_for=lambda layer_name, output: asked.append((layer_name, output)) or None,
        camkit_target_for=lambda request: f"target of {request}" if request == "cat" else None,
        camkit_default_layer=lambda model: "layer9" if model == "known" else None,
    )
    found = build(("p", plugin))
    assert found.reshape_for("model", "name", "layer", "output", "image") is None
    assert asked == [("name", "output")]
    assert found.target_for("cat", None, None) == "target of cat"
    assert found.target_for("dog", None, None) is None
    assert found.default_layer("known", None) == "layer9"
    assert found.default_layer("other", None) is None
