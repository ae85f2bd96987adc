"""Methods and targets that the checks themselves use."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from camkit_core.capture import Capture
from camkit_core.method import MethodModel
from camkit_core.need import Need
from camkit_core.protocols import TargetInfo

WORDS: dict[str, Need] = {
    "activations": Need.ACTIVATIONS,
    "gradients": Need.GRADIENTS,
    "hvp": Need.SECOND_ORDER,
    "head": Need.HEAD,
    "tail": Need.TAIL,
    "affine": Need.TAIL,
    "multipliers": Need.TAIL,
    "input_gradients": Need.INPUT_GRADIENTS,
    "scores": Need.SCORES,
    "at": Need.RECAPTURE,
    "attention": Need.ATTENTION,
    "grid": Need.ATTENTION,
    "readers": Need.ATTENTION,
    "exit_gradients": Need.ATTENTION | Need.GRADIENTS,
    "graph": Need.GRAPH,
}
"""What a method reads of its capture, and the need that stands for it."""


class Witness(MethodModel):
    """Gradient times activation: a second method for calls of several."""

    name: ClassVar[str] = "witness"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        """`sum_k G A`."""
        return (capture.gradients * capture.activations).sum(1)


class Watched:
    """A capture that notes what is read of it, and whether a tensor it gave out was written to."""

    def __init__(self, capture: Capture, used: set[Need], given: dict[str, tuple[Tensor, int]]):
        self._capture, self.used, self.given = capture, used, given

    def __getattr__(self, name: str) -> Any:
        if name in WORDS:
            self.used.add(WORDS[name])
        value = getattr(self._capture, name)
        if isinstance(value, Tensor):
            self.given.setdefault(name, (value, value._version))
        if name == "attention":
            return tuple(_WatchedBlock(one, self.used, self.given) for one in value)
        if name == "at":
            return lambda inputs: Watched(value(inputs), self.used, self.given)
        return value

    def __getitem__(self, layer: str) -> Watched:
        self.used.add(Need.LAYERS)
        return Watched(self._capture[layer], self.used, self.given)


class _WatchedBlock:
    """One block's attention that notes the same."""

    def __init__(self, block: Any, used: set[Need], given: dict[str, tuple[Tensor, int]]) -> None:
        self._block, self._used, self._given = block, used, given

    def __getattr__(self, name: str) -> Any:
        if name.endswith("gradients"):
            self._used.add(Need.GRADIENTS)
        value = getattr(self._block, name)
        if isinstance(value, Tensor):
            place = f"attention ({name} of {self._block.layer})"
            self._given.setdefault(place, (value, value._version))
        return value


class Watch:
    """A method that runs another one on a watched capture."""

    def __init__(self, method: Any) -> None:
        self.method, self.name, self.needs = method, method.name, method.needs
        self.target_views = getattr(method, "target_views", ())
        self.used: set[Need] = set()
        self.given: dict[str, tuple[Tensor, int]] = {}

    def __call__(self, capture: Capture, /) -> Tensor:
        """The other method's map."""
        found: Tensor = self.method(Watched(capture, self.used, self.given))
        return found


class Boom(Exception):
    """Raised on purpose."""


class Bomb:
    """A target that raises when it scores for the given time, or when it is bound."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def bind(self, output: Any, run: Any, /) -> Bomb:
        """Itself."""
        if self.at == 0:
            raise Boom
        return self

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """The first logit."""
        self.calls += 1
        if self.calls == self.at:
            raise Boom
        first: Tensor = output[:, 0]
        return first

    def describe(self) -> TargetInfo:
        """Nothing in particular."""
        return TargetInfo(kind="test", label="bomb")
