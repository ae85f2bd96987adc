"""From the words of the command line to requests, and from values to safe text."""

from __future__ import annotations

import json
import math

import pytest

from camkit.cli import terminal
from camkit.cli.errors import Usage
from camkit.run import request
from camkit.run.predictions import predictions
from camkit_core import OptionError, UnknownNameError, default_registry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gradcam", ["gradcam"]),
        ("gradcam,layercam", ["gradcam", "layercam"]),
        (" gradcam , layercam ,", ["gradcam", "layercam"]),
        ("gradcampp:variant=grad-cam", ["gradcampp:variant=grad-cam"]),
        ("a:x=1,y=2", ["a:x=1,y=2"]),
        ("a:x=1,y=2,b,c:z=3", ["a:x=1,y=2", "b", "c:z=3"]),
        ("a,b:x=1,c", ["a", "b:x=1", "c"]),
        ("camkit-tasks/a,b", ["camkit-tasks/a", "b"]),
        ("a:url=x:y,b", ["a:url=x:y", "b"]),
        ("a:x=1,url=p:q,b", ["a:x=1,url=p:q", "b"]),
        ("", []),
    ],
)
def test_splitting_methods(text: str, expected: list[str]) -> None:
    assert list(request.split_methods(text)) == expected


def test_methods_are_known_and_taken_once() -> None:
    registry = default_registry()
    given = ["layercam,gradcam", "layercam", "gradcampp:variant=paper"]
    assert request.method_specs(given, ["fem"], registry) == (
        "layercam",
        "gradcam",
        "gradcampp:variant=paper",
    )
    assert request.method_specs([], ["fem"], registry) == ("fem",)
    with pytest.raises(UnknownNameError, match="did you mean 'layercam'"):
        request.method_specs(["gradcam,layercan"], [], registry)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradcampp:varant=paper", "no option 'varant'; did you mean 'variant'"),
        ("gradcampp:variant=papr", "variant='papr'"),
        ("gradcam:variant=paper", "gradcam has no option 'variant'"),
        ("gradcampp:paper", "must read name=value"),
    ],
)
def test_method_options_are_checked_with_the_names(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        request.method_specs([f"layercam,{spec}"], [], default_registry())


def test_targets_are_classes_names_and_ranks() -> None:
    words = ["pred", "281", "tabby cat", "-3", "top2", "281", "281-vs-282,285", "box:0"]
    found = [(wanted.word, wanted.request) for wanted in request.targets(words)]
    assert found == [
        ("pred", "pred"),
        ("281", 281),
        ("tabby cat", "tabby cat"),
        ("-3", -3),
        ("top2 #1", "pred:0"),
        ("top2 #2", "pred:1"),
        ("281-vs-282,285", "281-vs-282,285"),
        ("box:0", "box:0"),
    ]
    assert [wanted.word for wanted in request.targets([])] == ["pred"]
    assert [wanted.request for wanted in request.targets(["topaz", "stop2"])] == ["topaz", "stop2"]


@pytest.mark.parametrize("word", ["top0", "", "  "])
def test_targets_that_mean_nothing(word: str) -> None:
    with pytest.raises(
        Usage, match="give pred, top3, a class number or name, or what camkit targets lists"
    ):
        request.targets([word])


def test_layers_are_found_by_the_engine_unless_they_are_given() -> None:
    assert request.layers([]) is None
    assert request.layers(["layer4", "layer3.-1,layer2"]) == ("layer4", "layer3.-1", "layer2")


def test_formats_draw_first() -> None:
    registry = default_registry()
    assert request.formats([], registry) == ("png", "safetensors")
    assert request.formats(["JSON,.npz", "png"], registry) == ("png", "json", "npz")
    with pytest.raises(Usage, match="choose from json, npz, png, safetensors"):
        request.formats(["pickle"], registry)


def test_predictions_are_softmax_probabilities() -> None:
    import torch

    (first, second) = predictions(torch.tensor([[0.0, math.log(3)], [2.0, 2.0]]), ["cat", "dog"])
    assert [(p["class"], p["name"]) for p in first] == [(1, "dog"), (0, "cat")]
    assert [p["probability"] for p in first] == pytest.approx([0.75, 0.25])
    assert [p["probability"] for p in second] == pytest.approx([0.5, 0.5])


def test_independent_classes_are_not_shares_of_one():
    import torch

    scores = torch.tensor([[0.0, math.log(3), -800.0]])
    (said,) = predictions(scores, [], multi_label=True)
    assert [one["class"] for one in said] == [1, 0, 2]
    assert [one["probability"] for one in said] == pytest.approx([0.75, 0.5, 0.0], abs=1e-7)


def test_probabilities_are_not_squeezed_again() -> None:
    import torch

    (one,) = predictions(torch.tensor([[0.1, 0.9]]), [])
    assert [p["probability"] for p in one] == pytest.approx([0.9, 0.1])
    assert [p["name"] for p in one] == ["class 1", "class 0"]


def test_hopeless_classes_keep_their_order_and_equal_ones_theirs() -> None:
    import torch

    (one,) = predictions(torch.tensor([[-5e3, 9e3, -4e3, -6e3]]), [])
    assert [p["class"] for p in one] == [1, 2, 0, 3]
    assert [p["probability"] for p in one] == [1, 0, 0, 0]
    (same,) = predictions(torch.zeros(1, 1000), [])
    assert [p["class"] for p in same] == [0, 1, 2, 3, 4]


def test_names_of_another_number_of_classes_are_not_used() -> None:
    import torch

    (one,) = predictions(torch.tensor([[0.0, 1.0, 2.0]]), ["cat", "dog"])
    assert [p["name"] for p in one] == ["class 2", "class 1", "class 0"]


def test_outputs_that_are_not_classes_have_no_predictions() -> None:
    import torch

    assert predictions(torch.zeros(2, 3, 4, 4), []) == []
    assert predictions(torch.zeros(2, 1), []) == [[], []]


def test_text_is_printable_and_keeps_its_indentation() -> None:
    assert terminal.printable("  déjà vu · 日本") == "  déjà vu · 日本"
    assert terminal.printable("a\x1b[31m\r\n\u202eb\ud800") == "a�[31m���b�"


def test_json_is_strict_and_ascii() -> None:
    record = {"a": math.nan, "b": [math.inf, 1.5, None, True], "c": {"é": ("x",)}, "d": {1, 2}}
    text = terminal.dumps(record)
    assert text.isascii()
    assert json.loads(text) == {
        "a": None,
        "b": [None, 1.5, None, True],
        "c": {"é": ["x"]},
        "d": "{1, 2}",
    }
