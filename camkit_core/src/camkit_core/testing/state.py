"""Everything about a model, its input and the process that a call must leave as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from camkit_core.testing.judge import ensure

State = dict[str, Any]


def _bits(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    version = 0 if tensor.is_inference() else tensor._version
    return id(tensor), tensor.requires_grad, tensor.data_ptr(), version, tensor.detach().clone()


def _module(module: nn.Module) -> State:
    own = module.__dict__
    return {
        "attributes": sorted(own),
        "training": module.training,
        "children": [(name, id(child)) for name, child in module._modules.items()],
        "parameters": {name: _bits(p) for name, p in module._parameters.items()},
        ".grad": {n: _bits(p.grad) for n, p in module._parameters.items() if p is not None},
        "buffers": {name: _bits(b) for name, b in module._buffers.items()},
        "hooks": {
            k: list(v.items()) for k, v in own.items() if "hooks" in k and isinstance(v, dict)
        },
        "forward": own.get("forward"),
    }


def _process() -> State:
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "global random generator": torch.random.get_rng_state(),
        "threads": torch.get_num_threads(),
        "global hooks": [
            list(getattr(torch_module, name))
            for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
        ],
    }


def snapshot(model: nn.Module, image: Tensor) -> State:
    """State comparable with `differences`."""
    return {
        "process": _process(),
        "input": {"tensor": _bits(image), ".grad": _bits(image.grad) if image.is_leaf else None},
        "model": {name or "(itself)": _module(m) for name, m in model.named_modules()},
    }


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two states differ."""
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.dtype == after.dtype and torch.equal(before, after)
        return [] if same or _equal_with_nan(before, after) else [path]
    if isinstance(before, dict) and isinstance(after, dict):
        found = [f"{path}{key}" for key in before.keys() ^ after.keys()]
        for key in before:
            if key in after:
                found += differences(before[key], after[key], f"{path}{key} ")
        return found
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        if len(before) != len(after):
            return [path]
        pairs = zip(before, after, strict=True)
        return list(dict.fromkeys(d for b, a in pairs for d in differences(b, a, path)))
    return [] if before == after else [path]


def _equal_with_nan(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True))


@contextmanager
def unchanged(model: nn.Module, image: Tensor, what: str) -> Iterator[None]:
    """The block leaves model, image and process bit for bit as they were, even if it raises."""
    before = snapshot(model, image)
    try:
        yield
    finally:
        found = [one.strip() for one in differences(before, snapshot(model, image))]
        ensure(not found, f"{what} changed: {'; '.join(found[:6])}")
