"""Base of configurable methods."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from camkit_core.entries import Paper
from camkit_core.need import Claim, Need

if TYPE_CHECKING:
    from torch import Tensor

    from camkit_core.capture import Capture

RESERVED = frozenset(
    {
        *("model", "inputs", "method", "methods", "target", "targets", "layers", "reshape"),
        *("output", "precision", "budget", "batch_size", "seed", "post", "progress", "image"),
        *("differentiable", "registry"),
    }
)
"""Words of the engine; a method may not use them as option names."""


class MethodModel(BaseModel):
    """A method whose options are its fields: validated, hashable, serialisable.

    A subclass sets the class variables, adds fields with descriptions, and implements `__call__`.
    `target_views` names what it asks of the bound target instead of its score: `similarity`, say,
    a bound target that compares detections. It refuses other targets with a `CapabilityError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: ClassVar[str]
    needs: ClassVar[Need]
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.DETERMINISTIC})
    class_discriminative: ClassVar[bool] = True
    runs: ClassVar[str] = "1F + 1B"
    target_views: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[Paper | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse option names that the engine uses itself."""
        super().__pydantic_init_subclass__(**kwargs)
        taken = sorted(RESERVED & set(cls.model_fields))
        if taken:
            raise TypeError(f"{cls.__name__}: option names {taken} are the engine's own words")

    @abstractmethod
    def __call__(self, capture: Capture, /) -> Tensor:
        """Raw, signed map `[N, *S]`."""
