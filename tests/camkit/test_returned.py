"""What the summary of a run says of models without class scores: what there is, and what to ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from camkit.run.returned import returned

NAMES = ("nothing", "cat", "dog")
BOXES = "-t pred, box:0, box:LABEL or box:LABEL@x0,y0,x1,y1"


def detections(*scores: float) -> dict[str, torch.Tensor]:
    count = len(scores)
    return {
        "boxes": torch.zeros(count, 4),
        "scores": torch.tensor(scores),
        "labels": torch.arange(count) % 4,
    }


OUTPUTS = {
    "detections": (
        [detections(), detections(0.25, 0.5, 0.125, 0.75)],
        f"4 detections: class 3 0.75 \u00b7 cat 0.50 \u00b7 nothing 0.25 ...; {BOXES}",
    ),
    "one detection": ([detections(), detections(0.5)], f"1 detection: nothing 0.50; {BOXES}"),
    "no detection": (
        [detections(0.5), detections()],
        "no detections, so there is nothing to explain here",
    ),
    "queries": (
        {"logits": torch.zeros(2, 7, 4), "pred_boxes": torch.zeros(2, 7, 4)},
        f"7 predicted boxes; {BOXES}, or prediction:I",
    ),
    "before NMS": (
        torch.zeros(2, 84, 50),
        f"numbers [84, 50]; {BOXES} if these are predictions before NMS",
    ),
    "segmentation": (
        {"out": torch.zeros(2, 21, 12, 16), "aux": torch.zeros(2, 21, 12, 16)},
        "scores of 21 classes at each of 12x16 places; -t pred, CLASS, mask:CLASS, pixel:X,Y or "
        "region:FILE",
    ),
    "embedding": (
        {"image_embeds": torch.zeros(2, 8)},
        "an embedding of 8 numbers; -t pred, like:PHOTO or text:WORDS",
    ),
    "one logit": (
        torch.tensor([[1.0], [-2.5]]),
        "-2.5, a single number; -t value, or binary for its side",
    ),
    "one number": (
        torch.tensor([1.0, 0.5]),
        "0.5, a single number; -t value, or binary for its side",
    ),
    "something else": (
        {"a": torch.zeros(2, 3), "b": torch.zeros(2, 5)},
        "a [2, 3], b [2, 5], which are no class scores; `camkit targets` lists what can be "
        "explained of other outputs",
    ),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_said_of_other_outputs(kind: str) -> None:
    output, words = OUTPUTS[kind]
    assert returned(output, 1, NAMES) == words


DETECTOR = """
import torch
from torch import nn


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        small = 0.01 * self.features(x).tanh().mean((2, 3))
        boxes = torch.tensor([[1.0, 1, 20, 30], [8, 2, 40, 40]])
        scores, labels = torch.tensor([0.6, 0.9]), torch.tensor([1, 2])
        return [
            {"boxes": boxes + one[:4], "scores": scores + one[4], "labels": labels}
            for one in small
        ]


def build():
    from camkit_tasks import ImagePreprocess

    prepare = ImagePreprocess(resize=48, crop=(48, 48), mean=(0, 0, 0), std=(1, 1, 1))
    names = ["nothing", "cat", "dog"]
    return {"model": Detector(), "preprocess": prepare, "class_names": names}
"""


def test_a_run_on_a_detector_says_what_it_found_and_what_to_ask(run, photo: Path) -> None:
    Path("detector.py").write_text(DETECTOR)
    done = run("explain", photo, "--model", "detector.py:build", "-t", "box:0", "-l", "features")
    assert done.code == 0, done.err
    (line,) = (line for line in done.lines if "the model says" in line)
    assert line.split("says")[1].strip().startswith("2 detections: dog 0.9")
    assert line.endswith(f"; {BOXES}")
    assert "reads as classes" not in done.err
