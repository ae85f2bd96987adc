"""What hooks keep of one forward pass, and what they notice that makes it untrustworthy.

A kept output becomes a leaf (or stays a node, if an earlier captured layer already started the
graph), and a clone of it goes on, so that nothing downstream can write into what was kept.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from camkit_core.attention_watch import Watch
from camkit_core.errors import CaptureError
from camkit_core.layers import Layer
from camkit_core.trace import Place, Trace
from camkit_core.tree import floating, map_tensors, tensors

_ACTIVE: ContextVar[object] = ContextVar("camkit_active_recorder", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one forward pass must leave behind."""

    layers: tuple[Layer, ...] = ()
    gradients: bool = False  # the graph starts at the first captured layer
    input_gradients: bool = False  # the graph starts at the image
    differentiable: bool = False  # the graph reaches down to the model's parameters
    double_backward: bool = False  # kernels without a second derivative are avoided
    head: bool = False  # calls of linear layers are noted
    attention: bool = False  # attention is opened
    attention_gradients: bool = False  # the graph starts at the first attention weights
    tail: bool = False  # what a run from a layer on needs is kept
    copied: frozenset[Place] = frozenset()  # calls whose output is copied for it at once
    unread: Mapping[str, frozenset[Place]] = field(default_factory=dict)  # layer -> calls not kept


@dataclass(frozen=True, slots=True)
class LinearCall:
    """One call of a linear layer (or 1x1 convolution) during the pass."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor


@dataclass(frozen=True, slots=True)
class How:
    """How a pass is run; each switch is the remedy for something that the plain way gets wrong."""

    keep_grad: bool = False  # the model's own no_grad is ignored
    on_model: bool = False  # hooks sit on the model itself
    from_start: bool = False  # the graph is on from the start
    as_is: bool = False  # the output itself becomes the leaf, because something else holds it
    isolate: bool = False  # the output is copied before it is kept


class Recorder:
    """Hooks of one pass.

    Attributes:
        kept: layer name -> output container of leaves or graph nodes.
        linear: calls of linear layers.
        traces: what came before each layer.
        watch: what opens attention, if it is wanted.
    """

    def __init__(self, plan: Plan, how: How, images: int) -> None:
        """Nothing was seen yet."""
        self.plan = plan
        me = ref(self)  # the watch outlives no recorder, and must not keep one
        self.watch = (
            Watch(images, lambda: is_active(me()), gradients=plan.attention_gradients)
            if plan.attention
            else None
        )
        self.how = how
        self.kept: dict[str, Any] = {}
        self.linear: list[LinearCall] = []
        self.traces: list[Trace] = []
        self.interrupted = False
        self.stored = False
        self.wrote = False
        self._calls: Counter[str] = Counter()
        self._versions: list[tuple[Tensor, int]] = []
        self._returned: list[tuple[str, Tensor, int]] = []
        self._held: list[ref[Tensor]] = []
        self._wanted = {(layer.path, layer.call or 0): layer for layer in plan.layers}

    def remedy(self) -> str | None:
        """What to do differently in another pass, if this one cannot be trusted."""
        found = {
            "on_model": any(not self._calls[layer.path] for layer in self.plan.layers),
            "from_start": self.interrupted and not self.how.keep_grad,
            "as_is": self.stored and self.plan.gradients,
            "isolate": any(tensor._version != version for tensor, version in self._versions),
        }
        return next(
            (name for name, yes in found.items() if yes and not getattr(self.how, name)), None
        )

    def attach(
        self, find: Callable[[nn.Module], nn.Module], model: nn.Module
    ) -> list[RemovableHandle]:
        """Hooks on every captured layer, and on linear layers if the head is wanted."""
        handles = [
            find(module).register_forward_hook(partial(self._hook, path), with_kwargs=True)
            for path, module in {layer.path: layer.module for layer in self.plan.layers}.items()
        ]
        if self.plan.head:
            handles += [
                find(module).register_forward_hook(partial(self._note_linear, name))
                for name, module in model.named_modules()
                if is_linear(module)
            ]
        if self.watch:
            handles += self.watch.attach(find, model)
        active = partial(is_active, self)
        return handles + [one for trace in self.traces for one in trace.attach(find, active)]

    def check(self) -> None:
        """Refuse layers that never ran, or whose call is not settled."""
        for layer in self.plan.layers:
            calls = self._calls[layer.path]
            if calls == 0:
                raise CaptureError(
                    f"layer {layer.path!r} did not run for this input: it is on an unused branch, "
                    "or the model runs compiled or scripted code; choose another layer (see "
                    "`camkit layers`) or pass the original Python model"
                )
            if layer.call is None and calls > 1:
                raise CaptureError(
                    f"layer {layer.path!r} ran {calls} times in one forward pass; say which call: "
                    f"'{layer.path}#0' to '{layer.path}#{calls - 1}'"
                )
            if layer.call is not None and layer.call >= calls:
                raise CaptureError(
                    f"layer {layer.path!r} ran {calls} time(s), so there is no call #{layer.call}; "
                    f"calls are counted from '{layer.path}#0'"
                )
        if self.how.as_is and self.how.isolate:
            raise CaptureError(
                f"the output of {self.plan.layers[0].path!r} is stored somewhere and written to "
                "later, so it cannot be cut out of the computation; choose the layer before or "
                "behind it"
            )

    def rewritten(self) -> str:
        """A layer whose output shared memory that was written later under another name."""
        return next((name for name, t, version in self._returned if t._version != version), "")

    def _hook(self, path: str, module: nn.Module, args: Any, *rest: Any) -> Any:
        # PyTorch sets a hook in two steps: between them another thread calls it without kwargs.
        kwargs, output = rest if len(rest) == 2 else ({}, *rest)
        holders = sys.getrefcount(output)
        if not is_active(self):
            return None
        call = self._calls[path]
        self._calls[path] += 1
        layer = self._wanted.get((path, call))
        if layer is None:
            return None
        if self.plan.gradients:
            self.look_at_mode()
            torch.set_grad_enabled(True)
        shared = {_storage(tensor) for tensor in tensors((args, kwargs))}
        self._returned += [
            (layer.name, tensor, tensor._version)
            for tensor in floating(output)
            if _storage(tensor) in shared and not tensor.is_inference()
        ]
        if not any(_storage(tensor) in shared for tensor in floating(output)):
            # Somebody who holds the output may use it again, past the clone that goes on.
            self.stored = self.stored or (isinstance(output, Tensor) and holders > _usual_holders())
            if not self.how.as_is:
                self._held += [ref(t) for t in floating(output) if not t.requires_grad]
        kept = map_tensors(lambda tensor: self._keep(tensor, shared), output)
        self.kept[layer.name] = kept
        return map_tensors(lambda t: t.clone() if torch.is_floating_point(t) else t, kept)

    def look_back(self) -> None:
        """Notice, while the model that ran still exists, what it did with captured outputs."""
        self.look_at_mode()
        self.stored = self.stored or any(held() is not None for held in self._held)

    def look_at_mode(self) -> None:
        """Notice that the model switched gradients off after a layer had switched them on."""
        if self.kept and self.plan.gradients and not torch.is_grad_enabled():
            self.interrupted = True
        if self.watch and self.watch.interrupted:
            self.interrupted = True

    def _keep(self, tensor: Tensor, shared: set[int]) -> Tensor:
        if not torch.is_floating_point(tensor):
            return tensor
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        mine = self.how.isolate or _storage(tensor) in shared
        if mine:
            tensor = tensor.clone()
        if not self.plan.gradients:
            tensor = tensor.detach()
        elif not tensor.requires_grad:
            tensor = tensor if self.how.as_is else tensor.detach()
            tensor.requires_grad_()
        self._versions.append((tensor, tensor._version))
        return tensor

    def _note_linear(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if is_active(self) and args and isinstance(output, Tensor):
            self.linear.append(LinearCall(name, module, args[0].detach(), output.detach()))


class _Counting:
    """Counts who holds a layer's output, in a hook called just as the recorder's is."""

    def __init__(self) -> None:
        self.holders = 0

    def hook(self, path: str, module: nn.Module, args: Any, *rest: Any) -> None:
        _, output = rest if len(rest) == 2 else ({}, *rest)
        self.holders = sys.getrefcount(output)


@cache
def _usual_holders() -> int:
    """References to an output that nobody stores, in this version of Python and PyTorch."""
    counting, module = _Counting(), nn.ReLU()
    module.register_forward_hook(partial(counting.hook, ""), with_kwargs=True)
    module(torch.zeros(1))
    return counting.holders


def is_linear(module: nn.Module) -> bool:
    """Linear layers and 1x1 convolutions."""
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.modules.conv._ConvNd) and set(module.kernel_size) == {1}
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def is_active(recorder: object) -> bool:
    """Whether this thread is inside the pass of that recorder, and not inside a nested one."""
    return _ACTIVE.get() is recorder


@contextlib.contextmanager
def active(recorder: object) -> Iterator[None]:
    """Mark a pass, so that hooks hear their own pass only."""
    token = _ACTIVE.set(recorder)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
