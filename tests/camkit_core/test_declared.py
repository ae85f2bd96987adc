"""A method that runs the model more often than it declares is found out."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from core_proof.methods import registry
from core_proof.networks import Chain, images

from camkit_core import MethodModel, Need, TensorRows, explain
from camkit_core.declared import allowed_rows


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        ("1F + 1B", 1),
        ("1F + K F", 16 + 1),
        ("1F + K T", 16 + 1),
        ("1F + 20 K T", 320 + 1),
        ("1F + S T", 9 + 1),
        ("1F + 1B + sqrt(K) F", 4 + 1),
        ("1F + sum(K) F", 24 + 1),
        ("1F + 100 (F + B)", 100 + 1),
        ("2F + 1B", 1 + 1),
        ("1F + one row per channel", math.inf),
        ("", math.inf),
    ],
)
def test_a_declaration_is_read(runs, rows):
    assert allowed_rows(runs, (16, 8), 9) == rows


class Often(MethodModel):
    """Masks the image `times` times."""

    name: ClassVar[str] = "often"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.SCORES
    runs: ClassVar[str] = "1F + 5 F"
    times: int = 5

    def __call__(self, capture, /):
        x = capture.inputs.repeat_interleave(self.times, 0)
        owner = torch.arange(len(capture.inputs)).repeat_interleave(self.times)
        scores = capture.scores(TensorRows(x, owner))
        return capture.activations.sum(1) * scores.reshape(-1, self.times).mean()


class Oftener(Often):
    times: int = 7


@pytest.mark.parametrize(("method", "found"), [(Often(), 0), (Oftener(), 1), (Often(times=50), 0)])
def test_the_engine_compares_it_with_what_was_asked_for(method, found):
    issues = explain(Chain(), images(2), method, 1, "body", registry=registry()).issues
    said = [issue.message for issue in issues if issue.code == "more_runs"]
    assert len(said) == found
    assert all("ran the model 7 times for each image, but declares '1F + 5 F'" in m for m in said)
