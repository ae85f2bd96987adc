"""What the localisation metrics share. N images, P positions (all spatial axes in one).

A metric reads an explanation's display maps and of these the positive part: a map says where the
evidence *for* the target lies. A map without any positive value, or with a value that is not
finite, points nowhere; every metric of it is NaN, never 0, so that silence is counted apart from
being wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from camkit_core import Explanation


def relevance(explanation: Explanation) -> Tensor:
    """Positive part of the display maps `[N, P]`, largest value 1; a useless map is NaN.

    In float64 (float32 where the device has no float64), so that neither the batch size nor the
    scale of a map shows in a metric.
    """
    maps = explanation.maps.detach().flatten(1)
    maps = maps.to(torch.float32 if maps.device.type == "mps" else torch.float64)
    finite = maps.isfinite().all(1, keepdim=True)
    maps = maps.relu()
    top = maps.amax(1, keepdim=True)
    return maps / torch.where(finite & (top > 0), top, torch.nan)


def mass(relevance: Tensor, mask: Tensor) -> Tensor:
    """Relevance inside a mask `[N, *S]`, summed, `[N]`."""
    return (relevance * mask.flatten(1)).sum(1)


def where_marked(values: Tensor, *masks: Tensor) -> Tensor:
    """Values `[N]`, NaN for images in which one of the masks is empty."""
    for mask in masks:
        values = torch.where(mask.flatten(1).any(1), values, torch.nan)
    return values
