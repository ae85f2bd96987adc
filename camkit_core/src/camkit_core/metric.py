"""Base of configurable metrics, and the interval of a mean."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel, ConfigDict

from camkit_core.entries import Paper
from camkit_core.errors import CapabilityError
from camkit_core.protocols import Evidence, Truth

if TYPE_CHECKING:
    from torch import Tensor

    from camkit_core.explanation import Explanation


class MetricModel(BaseModel):
    """A metric whose options are its fields: validated, hashable, serialisable.

    A subclass sets the class variables, adds fields with descriptions, and implements `__call__`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    paper: ClassVar[Paper | None] = None

    @abstractmethod
    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """One value per image `[N]`; NaN where it is undefined."""

    def truth(self, explanation: Explanation, evidence: Evidence) -> Truth:
        """The truth, on the maps' device.

        Raises:
            CapabilityError: it is not known, or does not have the shape of the maps.
        """
        found = evidence.truth
        if found is None:
            raise CapabilityError(
                f"metric {self.name} compares with the truth, but no masks of the right answer "
                "were given: pass Evidence(truth=Truth(target=...)), or use another metric"
            )
        device, shape = explanation.maps.device, explanation.maps.shape
        masks = (found.target, found.rivals, found.cell)
        if not all(mask is None or _is_mask(mask) for mask in masks):
            raise CapabilityError(
                f"metric {self.name}: a mask is a tensor of truth values, or of finite numbers of "
                "which those above 0 are on the object and none is below"
            )
        if any(mask is not None and mask.shape != shape for mask in masks):
            shapes = [list(mask.shape) for mask in masks if mask is not None]
            raise CapabilityError(
                f"metric {self.name}: masks {shapes} must have the shape of the maps, {list(shape)}"
            )
        target, rivals, cell = (None if m is None else m.to(device).bool() for m in masks)
        assert target is not None
        return Truth(target=target, rivals=rivals, cell=cell)


def _is_mask(mask: object) -> bool:
    if not isinstance(mask, torch.Tensor):
        return False
    return mask.dtype == torch.bool or bool((torch.isfinite(mask) & (mask >= 0)).all())


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its uncertainty."""

    mean: float
    low: float
    high: float
    count: int  # values that were defined

    def __str__(self) -> str:
        """`0.812 [0.790, 0.834]`."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: Tensor, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Mean of per-image values `[N]` with its percentile bootstrap interval; NaN is left out.

    The generator is private and seeded, so equal values give equal intervals. Efron, Bootstrap
    Methods: Another Look at the Jackknife, Annals of Statistics 1979.
    """
    known = values.detach().double().cpu()
    known = known[~known.isnan()]
    if not len(known):
        return Interval(torch.nan, torch.nan, torch.nan, 0)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(known), (draws, len(known)), generator=generator)
    tail = (1 - level) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=known.dtype)
    low, high = known[rows].mean(1).quantile(ends).tolist()
    return Interval(float(known.mean()), low, high, len(known))
