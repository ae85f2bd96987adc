"""From the frames of a film to the input of a video network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from camkit_core import InputError, Prepared
from camkit_tasks.photos.preprocess import ImagePreprocess


class ClipPreprocess(BaseModel):
    """Frames one by one as photos, then stacked: `[1, 3, T, H, W]`.

    Frames are not left out or repeated: how fast a clip runs changes what a network sees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frame: ImagePreprocess = Field(description="what is done to every frame")
    frames: Annotated[int, Field(ge=1)] = Field(
        default=16, description="frames of a clip as the network was trained"
    )
    exactly: bool = Field(default=False, description="whether other numbers of frames are refused")

    def __call__(self, clip: Any, /) -> Prepared:
        """A batch of one clip, given as a sequence of PIL images.

        Raises:
            InputError: a single photo, something else, or a number of frames that does not fit.
        """
        if isinstance(clip, Image.Image):
            raise InputError(
                "this is a video network: it explains clips, and the command line can only give it "
                f"a photo; from Python pass {self.frames} frames, as in "
                "camkit.explain(loaded, loaded.preprocess([PIL images]))"
            )
        if not isinstance(clip, Sequence) or isinstance(clip, str) or not clip:
            raise InputError(
                f"a clip is a sequence of PIL images, one per frame, got {type(clip).__name__}"
            )
        if self.exactly and len(clip) != self.frames:
            raise InputError(
                f"the clip has {len(clip)} frames, but this network takes exactly {self.frames}; "
                "choose that many, evenly spaced"
            )
        if len({frame.size for frame in clip}) > 1:
            raise InputError("the frames of the clip differ in size; they must come from one film")
        return Prepared(torch.stack([self.frame(one).inputs for one in clip], dim=2), ())

    def describe(self) -> Mapping[str, Any]:
        """All settings, JSON-friendly."""
        return self.model_dump(mode="json")
