"""`camkit targets`, and targets by their words on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camkit.cli.targets import _record
from camkit_core import Entry, default_registry


def test_every_target_is_listed_with_the_words_for_it(run) -> None:
    done = run("targets")
    assert done.code == 0
    assert done.out == ""
    said = " ".join(done.err.split())
    for form in ("pred | topK", "CLASS | logit:CLASS", "pixel:X,Y[,class=CLASS]", "A-vs-B,C"):
        assert form in said
    assert "the logit of a class" in said


def test_json_has_one_object_per_target(run) -> None:
    done = run("targets", "--json")
    assert done.err == ""
    records = {record["name"]: record for record in done.records}
    assert set(records) == {"pred", *(entry.name for entry in default_registry().entries("target"))}
    assert records["finer"]["forms"] == ["A-vs-B,C", "finer:CLASS"]
    assert records["finer"]["summary"] == "a class against similar ones (Finer-CAM)"
    assert records["finer"]["distribution"] == "camkit-tasks"


@pytest.mark.parametrize(
    ("summary", "forms", "meaning"),
    [
        ("a:X | b: what", ["a:X", "b"], "what"),
        ("Log odds of a class", ["mine"], "Log odds of a class"),
    ],
)
def test_forms_are_read_off_the_summary(summary: str, forms: list[str], meaning: str) -> None:
    found = _record(Entry(kind="target", name="mine", ref="a:b", summary=summary))
    assert (found["forms"], found["summary"]) == (forms, meaning)


def test_targets_are_labelled_in_records_and_files(run, net: str, photo: Path) -> None:
    words = ["dark-vs-bright", "probability:bright", "counterfactual:pred", "raw:1"]
    given = [part for word in words for part in ("-t", word)]
    done = run("explain", photo, "--model", net, *given, "--format", "png,json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("camkit_out/results.jsonl").read_text().splitlines()]
    assert [row["target"] for row in rows] == words
    labels = ["dark vs bright", "probability of bright", "against bright", "raw output [1]"]
    assert [row["label"] for row in rows] == labels
    assert [row["class"] for row in rows] == [1, 0, None, None]
    for row, label in zip(rows, labels, strict=True):
        record = json.loads(Path("camkit_out", row["files"]["json"]).read_text())
        assert record["provenance"]["target"] == record["target"]["label"] == label


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("brigt", "did you mean 'bright'"),
        ("probability:brigt", "no class is called 'brigt'; did you mean 'bright'"),
        ("porbability", "did you mean 'probability'"),
        ("7", "class 7 is out of range"),
        ("1-vs-1", "compared with itself"),
        ("pixel:3,4", "class scores at every position"),
        ("region:nowhere.png", "nowhere.png does not exist"),
        ("top9", "rank 5 was asked for, but the model has 4 classes"),
    ],
)
def test_targets_that_are_wrong_cost_one_line(
    run, net: str, photo: Path, word: str, said: str
) -> None:
    done = run("explain", photo, "--model", net, "-t", word)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
