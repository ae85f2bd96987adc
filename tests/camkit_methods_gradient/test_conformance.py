"""Every method of the gradient package against the conformance checks of core."""

from __future__ import annotations

from collections.abc import Callable

from camkit_core import default_registry
from camkit_core.testing import parametrize_checks

FAMILY = [
    entry.name
    for entry in default_registry().entries("method")
    if entry.distribution == "camkit-methods-gradient"
]

VARIANTS = [
    *("eigencam:variant=grad-cam", "eigengradcam:variant=grad-cam", "kpcacam:variant=grad-cam"),
    *("kpcacam:kernel=rbf", "xgradcam:variant=grad-cam", "fem:variant=xplique"),
    *("gradcampp:variant=grad-cam", "gradcampp:variant=torchcam"),
    *("rollout:heads=max", "rollout:discard=0.5,variant=vit-explain", "legrad:tokens=own"),
    *("attcat:queries=read", "gradeclip:start=0"),
]

EPSILON = "that library adds a constant to a denominator"
POWERS = "that library forms powers of the gradient"
SPARED = "that repository never discards the first token's weight for itself"
EXPECTED = {
    "rollout:discard=0.5,variant=vit-explain/flip": SPARED,
    "rollout:discard=0.5,variant=vit-explain/shift": SPARED,
    "eigengradcam:variant=grad-cam/locality": "centering moves every position by the mean",
    "xgradcam:variant=grad-cam/gap_is_cam": EPSILON,
    "xgradcam:variant=grad-cam/conservation": EPSILON,
    "xgradcam:variant=grad-cam/channel_rescaling": EPSILON,
    "gradcampp:variant=grad-cam/channel_rescaling": EPSILON,
    "gradcampp:variant=grad-cam/extreme_gradients": POWERS,
    "gradcampp:variant=torchcam/channel_rescaling": "its weights are cubes of the gradient",
    "gradcampp:variant=torchcam/score_scaling": "without the denominator the scale drops out",
    "gradcampp:variant=torchcam/extreme_gradients": POWERS,
    "fakecam/flip": "its dark cell stays in the first corner",
    "fakecam/shift": "its dark cell stays in the first corner",
    "gaussian/shift": "the middle of the picture does not move with what is in it",
    "sobel/shift": "the picture's border is not circular: its edges are repeated",
}


def test_the_family_is_there() -> None:
    assert len(FAMILY) >= 20


@parametrize_checks([*FAMILY, *VARIANTS], EXPECTED)
def test_family(check: Callable[[], None]) -> None:
    check()
