"""Group-CAM: groups of gradient-weighted channels, each scored once on a blurred background."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import (
    blur,
    mask_builder,
    spatial_mean,
    spread,
    weighted_sum,
)
from camkit_methods_perturbation.rows import Build, ask, masked


class GroupCAM(MethodModel):
    """sum_g w_g M_g with w_g = f(x * M_g + b * (1 - M_g)) - f(b), b the blurred image.

    Zhang et al., Group-CAM: Group Score-Weighted Visual Explanations for Deep Convolutional
    Networks, 2021, arXiv:2103.13859, eq. 1-6. M_g is relu(sum_k <G_k> A_k) over the g-th block of
    neighboring channels, without its lowest `denoise` percent, resized, then to [0, 1]. The map
    has the input's resolution.
    """

    name: ClassVar[str] = "groupcam"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS | Need.SCORES
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.DETERMINISTIC, Claim.CHANNEL_RESCALING, Claim.SCORE_SCALING, Claim.SCORE_SHIFT}
    )
    runs: ClassVar[str] = "1F + 1B + 33 F"

    groups: int = Field(32, ge=1, description="number of groups; at most one per channel")
    denoise: float = Field(
        70.0, ge=0, lt=100, description="percent of a group's positions that are set to 0"
    )
    fill: Literal["blur", "zero"] = Field("blur", description="what masked places show")
    normalize: Literal["none", "relu"] = Field(
        "none", description="none: groups that lower the score subtract; relu: they count nothing"
    )

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]` at the input's resolution."""
        images = capture.inputs
        groups = self._groups(capture)
        masks = mask_builder(groups, tuple(images.shape[2:]))
        fill = blur(images) if self.fill == "blur" else torch.zeros_like(images)
        base = ask(capture.scores, images, 1, lambda owner, _: fill[owner])
        weights = ask(capture.scores, images, groups.shape[1], masked(images, masks, fill)) - base
        weights = weights.relu() if self.normalize == "relu" else weights
        return _painted(weights, masks, images)

    def _groups(self, capture: Capture) -> Tensor:
        """`[N, groups, *S]`."""
        weighted = spread(spatial_mean(capture.gradients), capture.activations)
        blocks = (weighted * capture.activations).tensor_split(
            min(self.groups, weighted.shape[1]), 1
        )
        groups = torch.stack([block.sum(1) for block in blocks], 1).relu()
        flat = groups.flatten(2)
        bound = flat.quantile(self.denoise / 100, dim=2, keepdim=True)
        # At 0 percent every position stays, the lowest included.
        kept = flat > bound if self.denoise else torch.ones_like(flat, dtype=torch.bool)
        return flat.where(kept, 0.0).reshape(groups.shape)


def _painted(weights: Tensor, masks: Build, images: Tensor) -> Tensor:
    """sum_g w_g M_g, one group at a time."""
    owner = torch.arange(len(images), device=images.device)
    total = torch.zeros_like(images[:, 0])
    for group in range(weights.shape[1]):
        mask = masks(owner, torch.full_like(owner, group))
        total += weighted_sum(weights[:, [group]], mask[:, None])
    return total
