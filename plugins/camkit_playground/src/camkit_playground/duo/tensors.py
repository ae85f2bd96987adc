"""Scenes as batches for a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from camkit_playground.duo.drawing import Scene
    from camkit_playground.duo.tiling import Mosaic

MEAN, STD = 0.5, 0.25
"""Normalization of the demo networks, on values in [0, 1], for all channels."""


def batch(pictures: Sequence[Scene | Mosaic]) -> tuple[Tensor, Tensor, Tensor]:
    """Images `[N, 3, H, W]`, masks `[N, 8, H, W]` bool, labels `[N, 8]` bool.

    Images are float32 in the normalization of the demo networks. Pictures must have one size.
    """
    import torch

    images = torch.from_numpy(np.stack([picture.image for picture in pictures]))
    masks = torch.from_numpy(np.stack([picture.masks for picture in pictures]))
    labels = torch.from_numpy(np.stack([picture.labels for picture in pictures]))
    return normalized(images), masks, labels


def normalized(images: Tensor) -> Tensor:
    """Bytes `[N, H, W, 3]` to `[N, 3, H, W]` float32 with mean `MEAN` and deviation `STD`."""
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    return planes.div_(255).sub_(MEAN).div_(STD)
