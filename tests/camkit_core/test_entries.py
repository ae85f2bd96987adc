"""Entries, papers, specs: what plugins say about themselves."""

from __future__ import annotations

import pickle

import pytest
from core_proof.methods import GradCAM, HiRes
from hypothesis import given
from hypothesis import strategies as st

from camkit_core import Entry, MethodModel, Need, OptionError, Paper, PluginError, near, parse_spec

GRAD_CAM = Paper(
    title="Grad-CAM: Visual Explanations",
    authors=("Selvaraju, Ramprasaath R.", "Cogswell, Michael"),
    year=2017,
    venue="ICCV",
    doi="10.1109/ICCV.2017.74",
    arxiv="1610.02391",
)


@pytest.mark.parametrize("name", ["", "GradCAM", "grad-cam", "1cam", "grad cam", "a/b", "_x", "é"])
def test_a_name_that_could_not_be_typed_or_looked_up_is_refused(name):
    with pytest.raises(PluginError, match="must match"):
        Entry(kind="method", name=name, ref="a:b")
    with pytest.raises(PluginError, match="must match"):
        Entry(kind="method", name="fine", ref="a:b", aliases=(name,))


@pytest.mark.parametrize("ref", ["", "module", "module:", ":attribute", ":"])
def test_a_reference_without_module_or_attribute_is_refused(ref):
    with pytest.raises(PluginError, match=r"'fine'.*'module:attribute'"):
        Entry(kind="method", name="fine", ref=ref)


def test_entries_are_frozen_comparable_and_picklable():
    made = Entry.of(GradCAM)
    assert pickle.loads(pickle.dumps(made)) == made == Entry.of(GradCAM) != Entry.of(HiRes)
    with pytest.raises(AttributeError):
        made.name = "other"


def test_a_paper_links_to_its_doi_then_to_arxiv_then_nowhere():
    assert GRAD_CAM.url == "https://doi.org/10.1109/ICCV.2017.74"
    preprint = Paper(title="t", authors=("A, B",), year=2020, arxiv="2001.00001")
    assert preprint.url == "https://arxiv.org/abs/2001.00001"
    assert Paper(title="t", authors=("A, B",), year=2020).url == ""


def test_a_paper_has_one_line_and_a_bibtex_entry():
    assert GRAD_CAM.short == "Selvaraju et al., ICCV 2017"
    assert Paper(title="t", authors=("A, B",), year=2020).short == "A, preprint 2020"
    lines = GRAD_CAM.bibtex("gradcam").splitlines()
    assert lines[0] == "@inproceedings{gradcam,"
    assert lines[-1] == "}"
    assert "  author = {Selvaraju, Ramprasaath R. and Cogswell, Michael}," in lines
    assert "  booktitle = {ICCV}," in lines
    assert "  eprint = {1610.02391}," in lines
    assert GRAD_CAM.bibtex("x").count("{") == GRAD_CAM.bibtex("x").count("}")


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("gradcam", "gradcam", {}),
        (" gradcam ", "gradcam", {}),
        ("gradcam:", "gradcam", {}),
        ("scorecam:normalize=none,k=3", "scorecam", {"normalize": "none", "k": "3"}),
        ("a: b = c , d=e=f ,", "a", {"b": "c", "d": "e=f"}),
        ("dist/name:x=", "dist/name", {"x": ""}),
    ],
)
def test_a_spec_is_a_name_and_options(spec, name, options):
    assert parse_spec(spec) == (name, options)


@pytest.mark.parametrize("spec", ["a:b", "a:=b", "a:b=1,c", "a:,=,"])
def test_an_option_without_name_or_value_is_refused(spec):
    with pytest.raises(OptionError, match=r"must read name=value"):
        parse_spec(spec)


def test_an_option_given_twice_is_refused():
    with pytest.raises(OptionError, match="'b' is given twice in 'a:b=1,b=2'"):
        parse_spec("a:b=1,b=2")


words = st.text("abcdefghijklmnopqrstuvwxyz_0123456789./ -", min_size=1, max_size=8).map(str.strip)
names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)


@given(names, st.dictionaries(names, words, max_size=4))
def test_a_spec_that_is_written_is_read_back(name, options):
    spec = name + ":" + ",".join(f"{key}={value}" for key, value in options.items())
    assert parse_spec(spec) == (name, options)


@given(st.text(max_size=10), st.lists(names, max_size=6))
def test_near_misses_are_names_that_exist(word, known):
    said = near(word, known)
    quoted = said.split("'")[1::2]
    assert set(quoted) <= set(known)
    assert bool(said) == bool(quoted)


def test_near_misses_ignore_case_and_find_the_exact_spelling_first():
    assert near("layer4", ["Layer4", "layer3"]) == "; did you mean 'Layer4' or 'layer3'?"


@pytest.mark.parametrize("word", ["target", "seed", "layers", "registry", "post", "batch_size"])
def test_a_method_cannot_take_the_engines_words_as_options(word):
    with pytest.raises(TypeError, match=rf"Bad: option names \['{word}'\]"):
        type("Bad", (MethodModel,), {"__annotations__": {word: int}, word: 1, "__module__": "x"})


def test_options_are_validated_and_methods_are_frozen_and_hashable():
    method = HiRes(gain="2.5", rectify="yes")
    assert (method.gain, method.rectify) == (2.5, True)
    with pytest.raises(ValueError, match="frozen"):
        method.gain = 1
    with pytest.raises(ValueError, match="extra"):
        HiRes(gian=2)
    assert {HiRes(gain=1): "a"}[HiRes()] == "a"


def test_needs_are_listed_by_name_in_order():
    assert (Need.TAIL | Need.ACTIVATIONS).words() == ("activations", "tail")
    assert Need.NONE.words() == ()
