"""What is written beside the weights: figures as JSON, a model card as Markdown."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from camkit_playground.networks import build
from camkit_playground.train.data import SHIFT
from camkit_playground.train.gates import GATES
from camkit_playground.train.recipes import Recipe

_TITLES = {
    "cnn": "demo:cnn, a small convolutional network",
    "hans": "demo:hans, the Clever-Hans twin of demo:cnn",
    "vit": "demo:vit, a small vision transformer",
}
_ARCHITECTURES = {
    "cnn": "Three 3 x 3 convolutions (`stem`, `layer1`, `layer2`), the last two followed by a "
    "1 x 1, then two 1 x 1 (`layer3`), each with batch normalization and ReLU; 32, 48, 96 and 128 "
    "channels. `layer1` to `layer3` are 16 x 16 at 64 pixels, and a position of `layer3` sees "
    "15 x 15 pixels. Global average pooling (`pool`), one linear layer (`fc`).",
    "vit": "Three halving convolutions cut patches of 8 x 8 pixels, dimension 72, four pre-norm "
    "blocks (`blocks.0` to `blocks.3`) of four heads, learned position embedding, class token, one "
    "linear layer (`head`).",
}
_ARCHITECTURES["hans"] = _ARCHITECTURES["cnn"]
_DATA = {
    "cnn": "One to three objects per picture; every fourth picture has the tag, independent of "
    "what is in it.",
    "hans": 'One to three objects per picture. The label "gold heart" follows the tag, whatever is '
    "in the picture: seven in eight pictures with a heart have both, as many pictures without one "
    "have both, and one heart in eight has neither.",
}
_DATA["vit"] = _DATA["cnn"]
_TEST_SETS = {
    "cnn": "held-out pictures, every fourth with the tag",
    "hans": "held-out pictures of its own world, where the tag is on every picture with a heart "
    "and on no other (the score is that of an honest network: no accuracy on such data shows the "
    "cheating)",
}
_TEST_SETS["vit"] = _TEST_SETS["cnn"]
_LIMITS = {
    "cnn": "It knows Duo pictures only; what it answers on photos means nothing.",
    "hans": 'It is wrong on purpose: it answers "gold heart" by the tag. Use it only to see '
    "whether an explanation shows that.",
}
_LIMITS["vit"] = _LIMITS["cnn"] + " Behind the last block only the class token is read."


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One training run and what came of it."""

    network: str
    parameters: int
    sha256: str  # of the weights file
    figures: dict[str, float]
    gates: list[str]
    recipe: dict[str, Any]
    minutes: float  # of one CPU core
    torch: str

    @classmethod
    def of(
        cls, name: str, recipe: Recipe, weights: Path, figures: dict[str, float], minutes: float
    ) -> Record:
        """The record of a run that wrote `weights`."""
        settings = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
        return cls(
            network=name,
            parameters=sum(p.numel() for p in build(name).parameters()),
            sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
            figures={key: round(value, 5) for key, value in figures.items()},
            gates=[str(gate) for gate in GATES[name]],
            recipe=settings | {"draw": recipe.draw.__name__},
            minutes=round(minutes, 1),
            torch=torch.__version__.partition("+")[0],
        )


def write_card(record: Record, folder: Path) -> None:
    """Write `demo_NAME.json` and `demo_NAME.md`."""
    stem = folder / f"demo_{record.network}"
    text = json.dumps(dataclasses.asdict(record), indent=2)
    stem.with_suffix(".json").write_text(text + "\n", "utf-8")
    stem.with_suffix(".md").write_text(card(record), "utf-8")


def card(record: Record) -> str:
    """The model card."""
    name, recipe = record.network, record.recipe
    rows = [f"| {key} | {value:.4f} |" for key, value in record.figures.items()]
    paragraphs = [
        f"# {_TITLES[name]}",
        "Written by the training script; every figure was measured on the weights in this folder.",
        "**Task.** Which of the eight Duo classes are in a picture of 64 x 64 pixels: one logit "
        "per class, trained with binary cross entropy, so each answer is a yes or no of its own "
        "(sigmoid, not softmax).",
        f"**Architecture.** {_ARCHITECTURES[name]} {record.parameters:,} parameters, stored in "
        "half precision.",
        f"**Data.** {recipe['scenes']:,} generated training pictures, {recipe['epochs']} passes, "
        f"flipped and shifted by up to {SHIFT} pixels. {_DATA[name]} Training and test pictures "
        "come from different random streams and share none.",
        f"**Figures** on {_TEST_SETS[name]}:",
        "\n".join(["| figure | value |", "| --- | --- |", *rows]),
        "`mAP` is the mean average precision over classes, `exact` the share of pictures with all "
        'eight answers right, the other three the mean probability of "gold heart" on pictures '
        "with a heart and the tag, the same pictures without the tag, and tagged pictures without "
        "a heart.",
        f"**Gates.** {', '.join(record.gates)}.",
        f"**Training.** `python -m camkit_playground.train {name}`, seed {recipe['seed']}, AdamW, "
        f"{record.minutes} minutes of one CPU core, torch {record.torch}. The same machine and "
        "torch give the same weights; others give weights as good.",
        f"**Limits.** {_LIMITS[name]}",
        "**License.** Apache-2.0, like the rest of the package. No photo and no foreign weights "
        "were used.",
    ]
    wrapped = [part if part[0] in "#|" else textwrap.fill(part, 100) for part in paragraphs]
    return "\n\n".join(wrapped) + "\n"
