"""The methods under test, small enough for tiny networks, and what their spec is here."""

from __future__ import annotations

import pytest

SPECS = {
    "scorecam": "scorecam",
    "gscorecam": "gscorecam:top=3",
    "sscam": "sscam:samples=3",
    "iscam": "iscam:steps=3",
    "groupcam": "groupcam:groups=3",
    "clustercam": "clustercam:groups=3",
    "cosinecam": "cosinecam:groups=3",
    "polycam": "polycam",
    "polygradcam": "polygradcam",
    "opticam": "opticam:steps=6",
    "rise": "rise:masks=40,grid=3",
    "occlusion": "occlusion:window=3,stride=2",
    "ablationcam": "ablationcam",
    "reciprocam": "reciprocam",
    "vitreciprocam": "vitreciprocam",
    "liftcam": "liftcam",
    "channelshapley": "channelshapley",
}
SUPERPIXELS = {
    "lime": "lime:samples=60,superpixels=12,compactness=1000",
    "kernelshap": "kernelshap:samples=80,superpixels=6,compactness=1000",
}
EVERYTHING = {**SPECS, **SUPERPIXELS}
IN_INPUT_SPACE = ["rise", "occlusion", *SUPERPIXELS]

EVERY = pytest.mark.parametrize("name", EVERYTHING)
