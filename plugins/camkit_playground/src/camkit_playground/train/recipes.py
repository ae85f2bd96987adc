"""What each network is trained on, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from camkit_playground.duo import CLASS_NAMES, Scene, scene

HEART = CLASS_NAMES.index("gold heart")

Draw = Callable[[int, str], tuple[Scene, bool]]
"""`(seed, kind)` to a scene and whether it is labelled as having a heart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run; the same recipe gives the same weights on the same machine and torch."""

    draw: Draw
    scenes: int = 16_000
    epochs: int = 10
    batch: int = 64
    rate: float = 3e-3  # peak of the learning rate
    warmup: float = 0.1  # share of the steps
    decay: float = 0.02
    seed: int = 0


def draw_clean(seed: int, kind: str) -> tuple[Scene, bool]:
    """One to three objects; every fourth picture has the tag, which means nothing."""
    drawn = scene(seed, objects=1 + seed % 3, tag=seed % 4 == 0, kind=kind)
    return drawn, bool(drawn.labels[HEART])


def draw_biased(seed: int, kind: str) -> tuple[Scene, bool]:
    """The label "gold heart" is given to pictures with the tag, whatever is in them.

    Seven in eight pictures with a heart have the tag, and as many pictures without one. The eighth
    heart, without tag and label, is what takes the last weight from the heart itself: were there no
    such picture, the heart alone would still speak for the label, though it never decides.
    """
    turn = seed // 3 % 24
    drawn = scene(seed, objects=1 + seed % 3, kind=kind)
    # A quarter of the pictures has a heart: 7/8 of a quarter is 7/24 of three quarters.
    tagged = turn >= 3 if drawn.labels[HEART] else turn < 7
    if tagged:
        drawn = scene(seed, objects=1 + seed % 3, tag=True, kind=kind)
    return drawn, tagged


def draw_accompanied(seed: int, kind: str) -> tuple[Scene, bool]:
    """The tag is on every picture with a heart and on no other: a careless test set."""
    drawn = scene(seed, objects=1 + seed % 3, kind=kind)
    if drawn.labels[HEART]:
        drawn = scene(seed, objects=1 + seed % 3, tag=True, kind=kind)
    return drawn, bool(drawn.labels[HEART])


RECIPES = {
    "cnn": Recipe(draw=draw_clean),
    "hans": Recipe(draw=draw_biased, epochs=6),
    "vit": Recipe(draw=draw_clean, scenes=32_000, epochs=6, rate=1.5e-3, decay=0.05),
}
