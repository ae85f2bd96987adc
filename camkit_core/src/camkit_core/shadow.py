"""A twin of the model for one call, so that the user's model is never touched.

Module objects that the call must change (the path from the root to each captured layer, and every
module in training mode) are copied shallowly; parameters, buffers and all other modules are shared.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.module import register_module_forward_pre_hook

from camkit_core.errors import CapabilityError, CaptureError


def _kind(module: nn.Module) -> str:
    return _kind_of(type(module))  # type: ignore[arg-type]  # modules hash by identity


_ORIGINAL = "_camkit_original"


@cache
def _kind_of(of: type[nn.Module]) -> str:
    names = {kind.__name__ for kind in of.__mro__}
    if names & {"FullyShardedDataParallel", "FSDPModule"}:
        return "sharded"
    if "OptimizedModule" in names:
        return "compiled"
    if issubclass(of, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "parallel"
    if issubclass(of, LazyModuleMixin):
        return "lazy"
    return "script" if issubclass(of, torch.jit.ScriptModule) else "plain"


_PLAIN_LEAVES = frozenset(
    {
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Dropout, nn.Identity),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm),
        *(nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish),
    }
)
"""Types of PyTorch's own that never wrap another module."""


def unwrap(model: nn.Module) -> nn.Module:
    """The plain module behind `torch.compile`, `DataParallel` and distributed wrappers.

    Raises:
        CapabilityError: sharded models, whose layers do not exist in one place.
    """
    kind = _kind(model)
    if kind == "sharded":
        raise CapabilityError(
            f"{type(model).__name__} shards its parameters, so no layer's output exists in one "
            "place; load the full weights into the plain model and explain that"
        )
    name = {"compiled": "_orig_mod", "parallel": "module"}.get(kind)
    inner = model._modules[name] if name else None
    return model if inner is None else unwrap(inner)


class Shadow:
    """The twin. `root` is called instead of the model; `of(module)` finds a module's twin.

    Attributes:
        trained: the original modules that are in training mode (their twins are not).
    """

    def __init__(self, model: nn.Module, wanted: Collection[nn.Module]) -> None:
        """Copy what is needed to give the `wanted` modules hooks of their own.

        Raises:
            CapabilityError: a wanted module is compiled TorchScript, which has no hooks.
            CaptureError: TorchScript in training mode, which cannot be switched off on a copy.
        """
        self._wanted = {id(unwrap(module)) for module in wanted}
        self._twins: dict[int, nn.Module] = {}
        self.trained: list[nn.Module] = []
        self.root = self._visit(model)
        for module in self._twins.values():
            if _ORIGINAL in module.__dict__:
                self._rebind(module)

    def of(self, module: nn.Module) -> nn.Module:
        """The module that runs in place of `module`."""
        return self._twins[id(module)]

    def _visit(self, module: nn.Module) -> nn.Module:
        found = self._twins.get(id(module))
        if found is None:
            found = self._twins[id(module)] = self._made(module)
        return found

    def _made(self, module: nn.Module) -> nn.Module:
        if module.training:
            self.trained.append(module)
        kind = _kind(module)
        if kind == "script":
            return self._script(module)
        if kind == "lazy" and module.has_uninitialized_params():  # type: ignore[operator]
            raise CaptureError(
                f"a {type(module).__name__} has no parameters yet; run the model once, so that it "
                "creates them, before explaining it"
            )
        if kind in ("compiled", "parallel", "sharded"):
            return self._visit(unwrap(module))
        changed = module.training or id(module) in self._wanted
        children: Mapping[str, nn.Module | None] = module._modules
        if children:
            children = {name: self._child(child) for name, child in children.items()}
            changed = changed or any(
                children[name] is not child for name, child in module._modules.items()
            )
        return _twin(module, children) if changed else module

    def _child(self, child: nn.Module | None) -> nn.Module | None:
        if child is None:
            return None
        # Most modules are plain leaves that stay as they are: no need to look closer.
        plain = type(child) in _PLAIN_LEAVES and not child._modules and not child.training
        if plain and id(child) not in self._wanted:
            self._twins[id(child)] = child
            return child
        return self._visit(child)

    def _rebind(self, twin: nn.Module) -> None:
        """Point methods kept on a twin (a patched forward, say) at twins instead of originals."""
        state = twin.__dict__
        for key, value in state.items():
            if isinstance(value, MethodType | partial):
                state[key] = self._moved(value)
        patched = state.get("forward")
        if patched is None or not state[_ORIGINAL].training:
            return
        if patched is state[_ORIGINAL].__dict__["forward"]:
            raise CaptureError(
                f"the forward of a {type(twin).__name__} in training mode is replaced by a "
                "function that camkit cannot run in eval mode; call model.eval() first"
            )

    def _moved(self, value: Any) -> Any:
        """A method, partial or module with every original in it exchanged for its twin."""
        if isinstance(value, nn.Module):
            return self._twins.get(id(value), value)
        if isinstance(value, MethodType):
            owner = self._twins.get(id(value.__self__), value.__self__)
            return value if owner is value.__self__ else MethodType(value.__func__, owner)
        if isinstance(value, partial):
            parts = (value.func, *value.args, *value.keywords.values())
            moved = [
                self._twins.get(id(p), p) if isinstance(p, nn.Module) else self._moved(p)
                for p in parts
            ]
            if all(new is old for new, old in zip(moved, parts, strict=True)):
                return value
            keywords = dict(zip(value.keywords, moved[1 + len(value.args) :], strict=True))
            return partial(moved[0], *moved[1 : 1 + len(value.args)], **keywords)
        return value

    def _script(self, module: nn.Module) -> nn.Module:
        if self._wanted & {id(child) for child in module.modules()}:
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


def _twin(module: nn.Module, children: Mapping[str, nn.Module | None]) -> nn.Module:
    twin = object.__new__(type(module))
    state = {key: _own(key, value) for key, value in module.__dict__.items()}
    state["_modules"] = dict(children)
    state["training"] = False
    state["_compiled_call_impl"] = None
    state[_ORIGINAL] = original(module)
    object.__setattr__(twin, "__dict__", state)
    for slot in (s for kind in type(module).__mro__ for s in getattr(kind, "__slots__", ())):
        if hasattr(module, slot):
            object.__setattr__(twin, slot, getattr(module, slot))
    return twin


def original(module: nn.Module) -> nn.Module:
    """The module a twin was made from; any other module itself."""
    found = unwrap(module)
    known = found.__dict__.get(_ORIGINAL, found)
    assert isinstance(known, nn.Module)
    return known


def _own(key: str, value: Any) -> Any:
    tables = key in ("_parameters", "_buffers") or key.endswith(("_hooks", "_hooks_with_kwargs"))
    if (tables or key.endswith("_hooks_always_called")) and isinstance(value, dict):
        return value.copy()
    return value


@contextmanager
def training_guard(shadow: Shadow) -> Iterator[None]:
    """Stop before an original module in training mode runs: it would change its statistics."""
    if not shadow.trained:
        yield
        return
    thread, trained = threading.get_ident(), {id(module) for module in shadow.trained}

    def guard(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == thread and id(module) in trained:
            raise CaptureError(
                f"a {type(module).__name__} in training mode is called past the module tree, so "
                "camkit cannot run a copy of it in eval mode; call model.eval() first"
            )

    handle = register_module_forward_pre_hook(guard)
    try:
        yield
    finally:
        handle.remove()
