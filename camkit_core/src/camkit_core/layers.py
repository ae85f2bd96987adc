"""From what a user calls a layer to one place in the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from camkit_core.errors import LayerError
from camkit_core.registry import near
from camkit_core.shadow import unwrap

LayerRequest = str | nn.Module | Sequence["str | nn.Module"] | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of one module: `call` is None if the module may run only once."""

    name: str  # dotted path, with "#call" if the user gave one
    path: str  # dotted path
    module: nn.Module
    call: int | None


def resolve_layers(model: nn.Module, request: LayerRequest) -> tuple[Layer, ...]:
    """Layers for a request: a dotted name, a module, or a list of them.

    Negative indices (`"layer4.-1"`) and calls of a reused module (`"relu#1"`) are understood.

    Raises:
        LayerError: nothing given, not found (with near misses), not part of the model, or twice.
    """
    if isinstance(request, (str, nn.Module)):
        request = [request]
    if not isinstance(request, Sequence) or not request:
        given = type(request).__name__ if hasattr(request, "shape") else repr(request)
        raise LayerError(
            f"layers={given}: give a dotted name, a module, or a non-empty list of them"
        )
    layers = tuple(_resolve(model, one) for one in request)
    places = [(layer.path, layer.call or 0) for layer in layers]
    for layer, place in zip(layers, places, strict=True):
        if places.count(place) > 1:
            raise LayerError(
                f"layer {layer.name!r} is given {places.count(place)} times; name it once"
            )
    return layers


def _resolve(model: nn.Module, request: Any) -> Layer:
    if isinstance(request, nn.Module):
        return _by_module(model, request)
    if isinstance(request, str):
        return _by_name(model, request)
    kind = type(request).__name__
    what = "a parameter or tensor" if hasattr(request, "requires_grad") else f"a {kind}"
    raise LayerError(f"a layer is a dotted name or a module, got {what}; see `camkit layers`")


def _by_module(model: nn.Module, module: nn.Module) -> Layer:
    for path, candidate in model.named_modules():
        if candidate is module:
            if not path:
                raise LayerError("the model itself is not a layer; name one inside it")
            return Layer(path, path, module, None)
    raise LayerError(
        f"the given {type(module).__name__} is not part of this {type(model).__name__}; "
        "it may belong to another copy of the model"
    )


def _by_name(model: nn.Module, name: str) -> Layer:
    dotted, _, call = name.partition("#")
    if call and not call.isdigit():
        raise LayerError(f"layer {name!r}: after '#' comes the number of the call, 0, 1, ...")
    module: nn.Module = model
    path: list[str] = []
    # "layer4[-1]" is what people copy from code; it means "layer4.-1".
    for part in re.sub(r"\[(-?\d+)\]", r".\1", dotted).split("."):
        module = unwrap(module)
        if part in ("module", "_orig_mod") and part not in module._modules:
            continue  # the name comes from a wrapper that is not there (any more)
        key = _child(module, part)
        if key is None:
            raise LayerError(_not_found(model, name, ".".join(path), module))
        module = module._modules[key]  # type: ignore[assignment]
        path.append(key)
    full = ".".join(path)
    if not call:
        return Layer(full, full, module, None)
    return Layer(f"{full}#{int(call)}", full, module, int(call))


def _child(module: nn.Module, part: str) -> str | None:
    children = [key for key, child in module._modules.items() if child is not None]
    if part in children:
        return part
    if re.fullmatch(r"-\d+", part) and -len(children) <= int(part) < 0:
        return children[int(part)]
    return None


def _not_found(model: nn.Module, name: str, parent: str, module: nn.Module) -> str:
    names = [path for path, _ in model.named_modules() if path]
    hint = near(name.partition("#")[0], names)
    if not hint:
        children = list(module._modules)[:8]
        hint = f"; {parent or type(model).__name__} has {', '.join(children) or 'no children'}"
    return f"{type(model).__name__} has no layer {name!r}{hint}"
