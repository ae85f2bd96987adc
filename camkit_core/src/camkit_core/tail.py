"""Two ways to run a model with a layer's output exchanged: from the layer on, or all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any
from weakref import proxy

import torch
from torch import Tensor, nn

from camkit_core.common import common_arguments
from camkit_core.errors import CaptureError
from camkit_core.layers import Layer
from camkit_core.owners import Owners
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.trace import Place, Trace, understood
from camkit_core.tree import map_tensors, tensors
from camkit_core.unread import Placeholder, Reads, UnreadError

_OWN = "_camkit_replay"


class Whole:
    """Runs the whole model on the owner's image and exchanges the layer's output.

    Right for any skip connection around the layer, and as dear as a forward.
    """

    def __init__(self, session: Session, layer: Layer) -> None:
        """Hook the layer on a shadow of its own."""
        self._session, self._layer = session, layer
        self._shadow = Shadow(session.model, [layer.module])
        here = proxy(self)  # a bound method would close a cycle through the shadow
        self._shadow.of(layer.module).register_forward_hook(
            lambda module, args, output: here._exchange(module, args, output)
        )

    def __call__(self, part: Tensor, owners: Owners) -> Any:
        """Output for rows `[M, C, *S]` of the layer."""
        self._output = replacement(self._session, self._layer, part, owners, clone=True)
        self._seen, self._done = 0, False
        common = common_arguments(self._session)
        inputs = owners.inputs(self._session.inputs.usable(), common, copy=True)
        output = inputs.call(self._shadow.root)
        if not self._done:
            raise CaptureError(f"layer {self._layer.name!r} did not run on the copy of the model")
        return output

    def _exchange(self, module: nn.Module, args: Any, output: Any) -> Any:
        self._seen += 1
        if self._seen - 1 != (self._layer.call or 0):
            return None
        self._done = True
        return self._output


class Replay:
    """Runs what comes after a layer: calls that finished before it return what they returned.

    Code outside of modules runs again; it sees the recorded values, repeated for every row.

    Attributes:
        wrote: whether the last run wrote into the rows.
        completed: how often everything was recorded, because what was not kept was needed.
    """

    wrote = False
    completed = 0

    def __init__(
        self,
        session: Session,
        trace: Trace,
        *,
        copy: bool,
        clone: bool,
        last: bool = False,
        again: Callable[[], Trace | None] = lambda: None,
        reads: Reads | None = None,
    ) -> None:
        """A shadow whose family answers from the trace.

        Args:
            session: the clean pass.
            trace: what it left behind for this layer.
            copy: recorded values get memory of their own for every row.
            clone: so do the rows, because code behind the layer writes into them.
            last: rows lie in memory with the channels last.
            again: records everything, if what was not kept is needed.
            reads: is told which recorded values are read.
        """
        self._session, self._trace, self._copy = session, trace, copy
        self._clone, self._last, self._again, self._reads = clone, last, again, reads
        self._shadow = Shadow(session.model, list(trace.family.values()))
        for name, module in trace.family.items():
            twin = self._shadow.of(module)
            twin.__dict__[_OWN] = (proxy(self), name)
            twin.__class__ = _answering(type(twin))  # type: ignore[arg-type]  # classes hash by identity

    def __call__(self, part: Tensor, owners: Owners) -> Any:
        """Output for rows `[M, C, *S]` of the layer."""
        try:
            return self._run(part, owners)
        except Exception:
            # Whatever the model made of it: it met something that was not kept.
            if not self._trace.incomplete or (trace := self._again()) is None:
                raise
        self._trace, self.completed = trace, self.completed + 1
        return self._run(part, owners)

    def _run(self, part: Tensor, owners: Owners) -> Any:
        layer = self._trace.layer
        self._rows = replacement(
            self._session, layer, part, owners, clone=self._clone, last=self._last
        )
        before = written(self._rows)
        self._owners, self._done, self._depth = owners, False, 0
        self._counts: Counter[str] = Counter()
        common = common_arguments(self._session)
        copy = self._copy or self._session.done.wrote
        inputs = owners.inputs(self._session.inputs.usable(), common, copy=copy)
        with self._reads or nullcontext():
            output = inputs.call(self._shadow.root)
        if self._reads:
            self._reads.read(output)
        if self._trace.incomplete or (self._trace.unread and not _free(output)):
            self._trace.flag.raised = True
            raise UnreadError("the output has something in it that was not kept")
        if not self._done:
            raise CaptureError(f"layer {layer.name!r} did not run when its part was run alone")
        self.wrote = any(tensor._version != version for tensor, version in before)
        self._rows = None
        return output

    def channels_last(self) -> Replay:
        """The same with every row's channels last in memory."""
        return Replay(
            self._session,
            self._trace,
            copy=self._copy,
            clone=self._clone,
            last=True,
            again=self._again,
        )

    def answer(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call of a member of the family returns."""
        if self._depth:
            return call()
        number = self._counts[name]
        self._counts[name] += 1
        if name == self._trace.layer.path and number == self._trace.index:
            self._done = True
            return self._rows
        calls = self._trace.calls.get(name, ())
        known = calls[number] if number < len(calls) else None
        if known is not None:
            return self._known(known.output, (name, number))
        self._depth += 1
        try:
            return call()
        finally:
            self._depth -= 1

    def _known(self, output: Any, place: Place) -> Any:
        if isinstance(output, Placeholder):
            return output
        found = self._owners.spread(output, copy=self._copy or place in self._trace.copied)
        if self._reads and isinstance(found, Tensor):
            self._reads.hand(place, found)
        return found


def _free(output: Any) -> bool:
    """Whether nothing in it can be a placeholder."""
    return understood(output) and not any(isinstance(t, Placeholder) for t in tensors(output))


@cache
def _answering(kind: type[nn.Module]) -> type[nn.Module]:
    """The same class, whose instances ask their replay before they run."""

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        replay, name = self.__dict__[_OWN]
        return replay.answer(name, lambda: kind.__call__(self, *args, **kwargs))

    return type(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})


def replacement(
    session: Session,
    layer: Layer,
    part: Tensor,
    owners: Owners,
    *,
    clone: bool,
    last: bool = False,
) -> Any:
    """Rows `[M, C, *S]` in the layer's own layout and precision."""
    kept = map_tensors(Tensor.detach, session.done.kept[layer.name])
    made = session.reshapes[layer.name].from_spatial(part, owners.spread(kept))
    like = iter(tensors(kept))

    def fit(tensor: Tensor) -> Tensor:
        original = next(like)
        laid = torch.channels_last if last and tensor.ndim == 4 else _layout(original)
        fitting = tensor.to(original.dtype)
        if not fitting.is_contiguous(memory_format=laid):
            fitting = fitting.contiguous(memory_format=laid)
        return fitting.clone() if clone and fitting is tensor else fitting

    return map_tensors(fit, made)


def _layout(tensor: Tensor) -> torch.memory_format:
    dense = tensor.ndim == 4 and not tensor.is_contiguous()
    last = dense and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def written(tree: Any) -> list[tuple[Tensor, int]]:
    """Tensors with their versions, to see later whether they were written to."""
    return [(t, t._version) for t in tensors(tree) if not t.is_inference()]


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
