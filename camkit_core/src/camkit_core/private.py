"""A private copy of a model that computes the same in a faster order.

Convolutions take in the batch normalization that follows them, and weights lie channels last. The
user's model is not touched: what changes are parameters of twins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import proxy

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from camkit_core.shadow import Shadow
from camkit_core.tree import tensors

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(slots=True)
class _Seen:
    """Calls of one convolution and what took its output."""

    calls: int = 0
    storage: int = 0
    norm: nn.Module | None = None


class Consumers(TorchDispatchMode):
    """Counts the operators that read each piece of memory."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.reads: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count, and run."""
        for key in {one.untyped_storage()._cdata for one in tensors((args, kwargs or {}))}:
            self.reads[key] += 1
        return func(*args, **(kwargs or {}))


class Recorded:
    """One run of a shadow: which normalization alone reads the output of which convolution."""

    def __init__(self, model: nn.Module) -> None:
        """Prepare a shadow with hooks on convolutions and normalizations."""
        self._model = model
        self._seen: dict[nn.Module, _Seen] = {}
        self._norms: Counter[nn.Module] = Counter()
        self._kept: list[Tensor] = []
        wanted = [module for module in model.modules() if _foldable(module)]
        self._shadow = Shadow(model, wanted)
        for module in wanted:
            twin = self._shadow.of(module)
            if type(module) in _CONVOLUTIONS:
                twin.register_forward_hook(self._after(module))
            else:
                twin.register_forward_pre_hook(self._before(module))
        self.root, self.consumers = self._shadow.root, Consumers()

    def pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Convolutions and the normalizations they can take in, after the run."""
        reads = self.consumers.reads
        for module, seen in self._seen.items():
            if seen.norm is None or seen.calls > 1 or self._norms[seen.norm] > 1:
                continue
            if reads[seen.storage] == 1:
                yield module, seen.norm
        self._kept.clear()

    def _after(self, module: nn.Module) -> Any:
        here = proxy(self)  # no cycle, in which outputs would live on after a failed run

        def note(twin: nn.Module, args: Any, output: Tensor) -> None:
            seen = here._seen.setdefault(module, _Seen())
            seen.calls += 1
            seen.storage = output.untyped_storage()._cdata
            here._kept.append(output)  # so that its memory is not used again

        return note

    def _before(self, module: nn.Module) -> Any:
        here = proxy(self)

        def note(twin: nn.Module, args: Any) -> None:
            here._norms[module] += 1
            key = args[0].untyped_storage()._cdata
            for seen in here._seen.values():
                if seen.storage == key:
                    seen.norm = module

        return note


def _foldable(module: nn.Module) -> bool:
    """A convolution or normalization of PyTorch's own, which nobody hooks."""
    state = module.__dict__
    hooked = any(state.get(name) for name in state if name.endswith("hooks"))
    if hooked or "forward" in state:
        return False
    if type(module) in _CONVOLUTIONS:
        return True
    return type(module) in _NORMS and module.running_mean is not None


def folded(model: nn.Module, pairs: list[tuple[nn.Module, nn.Module]]) -> nn.Module:
    """The copy: a twin of every module, sharing what does not change."""
    shadow = Shadow(model, list(model.modules()))
    for convolution, norm in pairs:
        weight, bias = _merged(convolution, norm)
        shadow.of(convolution).__dict__["_parameters"] = {"weight": weight, "bias": bias}
        _pass_through(shadow.of(norm))
    for module in model.modules():
        _channels_last(shadow.of(module))
    return shadow.root


def weights(model: nn.Module) -> int:
    """Bytes that a copy takes at most."""
    return sum(one.numel() * one.element_size() for one in model.parameters())


def _merged(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of `norm(convolution(x))`, worked out in float64."""
    double = torch.float64
    scale = 1 / (norm.running_var.to(double) + norm.eps).sqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().to(double)
    shift = -norm.running_mean.to(double) * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias.detach().to(double) * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().to(double)
    weight = convolution.weight.detach()
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.to(double) * wide).to(weight.dtype), shift.to(weight.dtype)


def _pass_through(twin: nn.Module) -> None:
    twin.__dict__["forward"] = _identity


def _identity(input: Tensor) -> Tensor:
    return input


def _channels_last(twin: nn.Module) -> None:
    state = twin.__dict__
    state["_parameters"] = {
        name: value if value is None else _laid_out(value.detach())
        for name, value in state["_parameters"].items()
    }


def _laid_out(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
