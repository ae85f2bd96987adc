"""Everything about a model, an input and the process that a call must leave as it was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_ALL = ("ignore", None)
"""A filter that hides whole categories; imports add only filters with a text or a module."""


def _bits(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    data = tensor.detach()
    return id(tensor), tensor.requires_grad, tensor.data_ptr(), tensor.is_leaf, data.clone()


def _of_module(module: nn.Module) -> dict[str, Any]:
    hooks = {
        name: (id(table), list(table.items()))
        for name, table in module.__dict__.items()
        if "hooks" in name and isinstance(table, dict)
    }
    return {
        "keys": sorted(module.__dict__),
        "type": type(module),
        "training": module.training,
        "children": [(name, id(child)) for name, child in module._modules.items()],
        "parameters": {name: _bits(p) for name, p in module._parameters.items()},
        "gradients": {
            name: _bits(p.grad) for name, p in module._parameters.items() if p is not None
        },
        "buffers": {name: _bits(b) for name, b in module._buffers.items()},
        "versions": {name: p._version for name, p in module.named_parameters(recurse=False)},
        "hooks": hooks,
        "forward": module.__dict__.get("forward"),
    }


def _stance() -> str:
    """How `torch.compile` behaves in this process; the compiler is loaded on first use only."""
    loaded = sys.modules.get("torch._dynamo.eval_frame")
    return loaded._stance.stance if loaded else "default"


def _of_process() -> dict[str, Any]:
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "anomaly": torch.is_anomaly_enabled(),
        "random": torch.random.get_rng_state(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "global hooks": [
            list(getattr(torch_module, name))
            for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
        ],
        "compiler": _stance(),
        "warnings": sum(1 for action, text, *_ in warnings.filters if (action, text) == _ALL),
        "modes": torch.overrides._get_current_function_mode_stack(),
        "sdp": (
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
        ),
    }


def _of_input(x: Any) -> list[Any]:
    if isinstance(x, Tensor):
        return [
            _bits(x),
            x._version if not x.is_inference() else 0,
            _bits(x.grad) if x.is_leaf else 0,
        ]
    return [_of_input(one) for one in (x.values() if isinstance(x, dict) else x)]


def snapshot(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """State of a model, its inputs and the process, comparable with `differences`."""
    return {
        "process": _of_process(),
        "input": _of_input(inputs),
        "tree": [(name, id(module)) for name, module in model.named_modules()],
        "modules": {name: _of_module(module) for name, module in model.named_modules()},
    }


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two snapshots differ."""
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        alike = before.dtype == after.dtype and torch.equal(before, after)
        if torch.is_floating_point(before) and before.shape == after.shape and not alike:
            alike = torch.equal(before.isnan(), after.isnan()) and torch.equal(
                before.nan_to_num(), after.nan_to_num()
            )
        return [] if alike else [path]
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [path + f".{key}" for key in before.keys() ^ after.keys()]
        shared = before.keys() & after.keys()
        return keys + [d for k in shared for d in differences(before[k], after[k], f"{path}.{k}")]
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        if len(before) != len(after):
            return [f"{path} (length)"]
        pairs = enumerate(zip(before, after, strict=True))
        return [d for i, (b, a) in pairs for d in differences(b, a, f"{path}[{i}]")]
    return [] if before == after else [path]


@contextmanager
def unchanged(model: nn.Module, inputs: Any = ()) -> Iterator[None]:
    """The block leaves model, inputs and process bit for bit as they were, even if it raises."""
    before = snapshot(model, inputs)
    try:
        yield
    finally:
        found = differences(before, snapshot(model, inputs))
        assert found == [], f"changed: {found}"
