"""The answer: indexing, labels, what is written down, saving and showing."""

from __future__ import annotations

import json

import pytest
import torch
from core_proof.checks import same, telling
from core_proof.methods import registry
from core_proof.networks import Chain, images
from core_proof.plugins import entry, offering

from camkit_core import (
    INPUT,
    Comparison,
    Explanation,
    Issue,
    Provenance,
    TargetInfo,
    UnknownNameError,
    __version__,
    compare,
    explain,
)


@pytest.fixture
def found():
    return explain(
        Chain(),
        images(3),
        "hires",
        [1, 3, 0],
        ["stem", "body"],
        gain=2.0,
        seed=5,
        registry=registry(),
    )


def test_one_image_is_taken_out_with_everything_that_is_its_own(found):
    for row in (0, 1, 2, -1):
        one = found[row]
        assert len(one) == 1
        same(one.maps[0], found.maps[row])
        same(one.score[0], found.score[row])
        same(one.inputs[0], found.inputs[row])
        for layer in ("stem", "body"):
            same(one.raw[layer][0], found.raw[layer][row])
        assert one.target.labels == (found.target.labels[row],)
        assert one.target.label == found.target.labels[row]
        assert one.target.classes.tolist() == [found.target.classes[row]]


def test_iterating_gives_every_image_once(found):
    assert [int(one.target.classes) for one in found] == [1, 3, 0]
    assert len(found) == 3
    for one, row in zip(found, telling(found.maps), strict=True):
        same(one.maps[0], row)


@pytest.mark.parametrize("index", [3, -4, 100])
def test_an_image_that_is_not_there_is_an_index_error(found, index):
    with pytest.raises(IndexError):
        found[index]


@pytest.mark.parametrize("part", [slice(1, 3), slice(None), slice(None, None, -1), slice(0, 0)])
def test_a_slice_takes_several_images(found, part):
    rows = list(range(3))[part]
    some = found[part]
    assert len(some) == len(rows)
    assert torch.equal(some.maps, found.maps[rows])
    assert torch.equal(some.raw["body"], found.raw["body"][rows])
    assert torch.equal(some.output, found.output[rows])
    assert some.target.labels == tuple(found.target.labels[row] for row in rows)
    assert some.target.classes.tolist() == [int(found.target.classes[row]) for row in rows]


def test_taking_one_out_of_one_is_the_same(found):
    same(found[1][0].maps, found[1].maps)


def test_raw_maps_cannot_be_exchanged_and_fields_cannot_be_set(found):
    with pytest.raises(TypeError):
        found.raw["body"] = found.maps
    with pytest.raises(AttributeError):
        found.maps = None
    with pytest.raises(AttributeError):
        found.raw.clear()


def test_the_mapping_that_was_handed_in_may_change_afterwards(found):
    raw = {"a": found.maps}
    made = Explanation(
        maps=found.maps,
        raw=raw,
        score=found.score,
        output=None,
        inputs=found.inputs,
        target=found.target,
        provenance=found.provenance,
    )
    raw["b"] = found.maps
    assert list(made.raw) == ["a"]


def test_the_provenance_is_enough_to_repeat_the_call(found):
    p = found.provenance
    assert (p.method, dict(p.parameters)) == ("hires", {"gain": 2.0, "rectify": False})
    assert (p.package, p.version, p.core_version) == ("proof", "0", __version__)
    assert p.layers == ("stem", "body")
    assert set(p.reshape) == {"stem", "body"}
    assert p.target == "class 1, class 3, class 0"
    assert (p.seed, p.dtype, p.device) == (5, "float64", "cpu")
    assert p.input_shape == tuple(images(3).shape)
    assert (p.forwards, p.backwards, p.notes) == (1, 1, ())
    assert len(p.post) == 5
    again = explain(
        Chain(),
        images(3),
        p.method,
        found.target.classes.tolist(),
        p.layers,
        seed=p.seed,
        registry=registry(),
        **p.parameters,
    )
    same(again.maps, found.maps)
    assert again.provenance == p


def test_the_provenance_can_be_written_as_json(found):
    text = json.dumps(found.provenance.as_dict(), allow_nan=False)
    assert json.loads(text)["layers"] == ["stem", "body"]
    assert json.loads(text)["parameters"]["gain"] == 2.0


def test_the_representation_is_one_line_with_the_issues(found):
    assert repr(found) == (
        "Explanation(hires of class 1, class 3, class 0 at stem, body: maps [3, 7, 10])"
    )
    marked = Explanation(
        maps=found.maps,
        raw={INPUT: found.maps},
        score=found.score,
        output=None,
        inputs=found.inputs,
        target=TargetInfo(kind="x", label="y"),
        provenance=_without_layers(found.provenance),
        issues=(Issue("all_zero", "m", (1,)),),
    )
    assert repr(marked) == "Explanation(hires of y at input: maps [3, 7, 10], issues=['all_zero'])"


def _without_layers(provenance):
    return Provenance(**{**provenance.as_dict(), "layers": ()})


def test_a_comparison_prints_one_line_per_explanation():
    found = compare(Chain(), images(), ["hires", "mean"], [0, 1], "body", registry=registry())
    lines = repr(found).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("('mean', 0): Explanation(mean of class 0 at body")


def test_pictures_belong_to_rows(found):
    shown = found.on("a", "b", "c")
    assert shown.pictures == ("a", "b", "c")
    assert shown[1].pictures == ("b",)
    assert found.pictures == ()
    with pytest.raises(ValueError, match="2 pictures for 3 images"):
        found.on("a", "b")


def render_plugin():
    return offering(
        entry("png", kind="writer", ref="core_proof.plugins:Png", suffixes=(".png",)),
        entry("overlay", kind="renderer", ref="core_proof.plugins:Sheet"),
        entry("grid", kind="renderer", ref="core_proof.plugins:Grid"),
    )


@pytest.fixture
def drawable():
    reg = registry(("render", render_plugin()))
    return explain(Chain(), images(), "hires", 1, "body", registry=reg)


def test_saving_asks_the_registry_for_a_writer(drawable, tmp_path):
    path = drawable.save(tmp_path / "map.PNG", size=3)
    assert path == tmp_path / "map.PNG"
    assert path.read_text() == "2 maps, {'size': 3}"
    assert drawable[0].save(str(tmp_path / "one.png")).read_text() == "1 maps, {}"


def test_showing_asks_the_registry_for_a_renderer(drawable):
    assert drawable.show(alpha=0.5) == "1 explanations, {'alpha': 0.5}"
    assert Comparison({("a", 0): drawable, ("b", 0): drawable}).show("overlay") == (
        "2 explanations, {}"
    )


def test_notebooks_show_a_picture_if_there_is_a_renderer(drawable, found):
    assert drawable._repr_png_() == b"PNG"
    assert Comparison({("a", 0): drawable})._repr_png_() == b"PNG"
    assert found._repr_png_() is None
    assert Comparison({})._repr_png_() is None


def test_notebooks_show_words_for_maps_that_are_no_pictures():
    reg = registry(("render", render_plugin()))
    found = explain(Chain(1), images(2, 1), "hires", 1, "body", registry=reg)
    assert found._repr_png_() is None


@pytest.mark.parametrize("suffix", [".png", ".npz", ".xyz", ""])
def test_saving_without_a_writer_names_what_to_install(found, tmp_path, suffix):
    with pytest.raises(UnknownNameError, match=r"camkit\[render\]"):
        found.save(tmp_path / f"map{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("renderer", ["overlay", "grid", "heatmap"])
def test_showing_without_a_renderer_names_what_to_install(found, renderer):
    with pytest.raises(UnknownNameError, match=rf"{renderer}.*camkit\[render\]"):
        found.show(renderer)
    with pytest.raises(UnknownNameError, match=r"camkit\[render\]"):
        Comparison({("a", 0): found}).show()


def test_an_empty_batch_is_an_empty_answer():
    net, x = Chain(), images(3)[:0]
    found = explain(net, x, "hires", 1, ["stem", "body"], registry=registry())
    assert found.maps.shape == (0, 7, 10)
    assert found.raw["body"].shape == (0, 4, 5)
    assert found.score.shape == (0,)
    assert list(found) == []
    assert found.issues == ()
    both = compare(net, x, ["gradcam", "mean", "saliency"], [0, None], "body", registry=registry())
    assert {len(one) for one in both.values()} == {0}


def test_the_image_is_not_copied_and_the_input_space_has_its_own_key():
    x = images()
    found = explain(Chain(), x, "saliency", 1, registry=registry())
    assert list(found.raw) == [INPUT]
    assert torch.equal(found.inputs, x)
    assert found.raw[INPUT].shape == found.maps.shape == (2, 7, 10)
