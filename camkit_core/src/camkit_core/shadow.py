"""A twin of the model for one call, so that the user's model is never touched.

Module objects that the call must change (the path from the root to each captured layer, and every
module in training mode) are copied shallowly; parameters, buffers and all other modules are shared.
"""

from __future__ import annotations

from collections.abc import Collection
from types import MethodType
from typing import Any

import torch
from torch import nn

from camkit_core.errors import CapabilityError, CaptureError

_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def unwrap(model: nn.Module) -> nn.Module:
    """The plain module behind `torch.compile`, `DataParallel` and distributed wrappers.

    Raises:
        CapabilityError: sharded models, whose layers do not exist in one place.
    """
    if any(kind.__name__ in _SHARDED for kind in type(model).__mro__):
        raise CapabilityError(
            f"{type(model).__name__} shards its parameters, so no layer's output exists in one "
            "place; load the full weights into the plain model and explain that"
        )
    inner = getattr(model, "_orig_mod", None)
    if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = model.module
    return unwrap(inner) if isinstance(inner, nn.Module) else model


class Shadow:
    """The twin. `root` is called instead of the model; `of(module)` finds a module's twin."""

    def __init__(self, model: nn.Module, wanted: Collection[nn.Module]) -> None:
        """Copy what is needed to give the `wanted` modules hooks of their own.

        Raises:
            CapabilityError: a wanted module is compiled TorchScript, which has no hooks.
            CaptureError: TorchScript in training mode, which cannot be switched off on a copy.
        """
        self._wanted = {id(module) for module in wanted}
        self._twins: dict[int, nn.Module] = {}
        self.originals: dict[int, nn.Module] = {}
        self.root = self._visit(model)
        self.trained = [module for module in self.originals.values() if module.training]

    def of(self, module: nn.Module) -> nn.Module:
        """The module that runs in place of `module`."""
        return self._twins[id(module)]

    def _visit(self, module: nn.Module) -> nn.Module:
        found = self._twins.get(id(module))
        if found is not None:
            return found
        self.originals[id(module)] = module
        inner = unwrap(module)
        if inner is not module:
            twin = self._visit(inner)
        elif isinstance(module, torch.jit.ScriptModule):
            twin = self._script(module)
        else:
            twin = self._plain(module)
        self._twins[id(module)] = twin
        return twin

    def _plain(self, module: nn.Module) -> nn.Module:
        children = {
            name: child if child is None else self._visit(child)
            for name, child in module._modules.items()
        }
        same = all(children[name] is child for name, child in module._modules.items())
        if same and not module.training and id(module) not in self._wanted:
            return module
        return _twin(module, children)

    def _script(self, module: torch.jit.ScriptModule) -> nn.Module:
        inside = {id(child) for child in module.modules()}
        if self._wanted & inside:
            raise CapabilityError(
                "this layer is TorchScript, which runs without hooks; explain the Python model it "
                "was compiled from, or use a method that only needs scores (e.g. rise)"
            )
        if module.training:
            raise CaptureError(
                "a TorchScript module is in training mode, which camkit cannot switch off on a "
                "copy of the model; call model.eval() first"
            )
        return module


def _twin(module: nn.Module, children: dict[str, nn.Module | None]) -> nn.Module:
    twin = object.__new__(type(module))
    state = {key: _own(key, value) for key, value in module.__dict__.items()}
    state["_modules"] = children
    state["training"] = False
    state["_compiled_call_impl"] = None
    for key, value in state.items():
        # A patched forward is bound to the original, whose children have no hooks.
        if isinstance(value, MethodType) and value.__self__ is module:
            state[key] = MethodType(value.__func__, twin)
    object.__setattr__(twin, "__dict__", state)
    return twin


def _own(key: str, value: Any) -> Any:
    tables = key in ("_parameters", "_buffers") or key.endswith(("_hooks", "_hooks_with_kwargs"))
    if (tables or key.endswith("_hooks_always_called")) and isinstance(value, dict):
        return value.copy()
    return value
