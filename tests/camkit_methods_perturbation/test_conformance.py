"""Every method of the perturbation package against the conformance checks of core."""

from __future__ import annotations

from collections.abc import Callable

from perturbation_proof.family import EVERYTHING

from camkit_core import default_registry
from camkit_core.testing import parametrize_checks

FAMILY = {
    entry.name
    for entry in default_registry().entries("method")
    if entry.distribution == "camkit-methods-perturbation"
}

# Random methods are asked for so much that their random numbers are needed.
RANDOM = {
    "channelshapley": "channelshapley:exact=0,orders=4",
    "kernelshap": "kernelshap:samples=80,superpixels=30,compactness=1000",
}
VARIANTS = [
    *("scorecam:variant=authors", "scorecam:variant=torchcam", "gscorecam:top=3,variant=authors"),
    *("polycam:variant=both", "ablationcam:ratio=0.5", "sscam:samples=3,variant=input"),
    "clustercam:groups=3,select=all",
]
OTHERS = {"drise": "drise:masks=60,grid=3"}
SPECS = [*{**EVERYTHING, **OTHERS, **RANDOM}.values(), *VARIANTS]

ONE_LAYER = "what it claims holds for several layers; one alone has nothing to multiply"
SOFTMAX = "it refuses scores that are not linear in the logits; linear ones are in test_oracles"
BORDER = "its windows end, and its blur is mirrored, at the border of the picture"
GRID = "its grid of windows begins in the first corner and need not end in the last"
SCORES = "its weights are the scores themselves; what it claims holds for the paper's softmax"
EXPECTED: dict[str, str] = {
    "occlusion:window=3,stride=2/flip": GRID,
    "occlusion:window=3,stride=2/shift": GRID,
    "scorecam:variant=authors/linear_in_target": SCORES,
    "scorecam:variant=authors/score_scaling": SCORES,
    "scorecam:variant=authors/score_shift": SCORES,
    "gscorecam:top=3,variant=authors/score_shift": "its other channels have the score 0 in all",
    "liftcam/linear_in_target": SOFTMAX,
    "polycam/linear_in_target": ONE_LAYER,
    "polygradcam/linear_in_target": ONE_LAYER,
    "polygradcam/gap_is_cam": ONE_LAYER,
    "vitreciprocam/shift": BORDER,
    "groupcam:groups=3/shift": BORDER,
}


def test_every_method_is_asked() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == FAMILY


@parametrize_checks(SPECS, EXPECTED)
def test_family(check: Callable[[], None]) -> None:
    check()
