"""Runs a model once and looks at every layer: which can be drawn, and which to explain by default.

The default is the one a plugin names for the model family. Otherwise it is the last layer that
still has a picture (more than one position, learned parameters, not a bare projection) and whose
positions the score still depends on. The second condition is what rules out the end of a vision
transformer, where only the class token reaches the answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from camkit_core.errors import LayerError, LayoutError, TargetError
from camkit_core.inputs import ModelInputs, check_batch
from camkit_core.outputs import Selector, select
from camkit_core.protocols import BoundTarget, LoadedModel, Prepared, Reshape, TargetContext
from camkit_core.record import answer, run
from camkit_core.recorder import Plan, active, is_active
from camkit_core.registry import Registry, default_registry
from camkit_core.requests import TargetRequest, as_target, rank_of
from camkit_core.reshapes import find_reshape
from camkit_core.shadow import Shadow, original, training_guard, unwrap
from camkit_core.targets import BoundNothing, ClassTarget
from camkit_core.tree import describe, exact, floating, map_tensors, tensors

_LOOK_BACK = 48
"""How many of the last layers are tested for dependence."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One module of the model, as `camkit layers` shows it."""

    name: str
    kind: str
    output: str  # types and shapes of the last call
    spatial: tuple[int, ...] | None  # picture size, None if it cannot be read as a picture
    calls: int
    default: bool
    note: str
    reshape: str = ""  # how the output is read as a picture


@dataclass(frozen=True, slots=True)
class LayerReport:
    """All layers in execution order, the default, and why it is the default."""

    rows: tuple[LayerRow, ...]
    default: str
    reason: str
    forwards: int = 1  # passes of the model it took; targets may ask for some of their own


@dataclass(slots=True)
class _Seen:
    """What one module did during the pass."""

    name: str
    module: nn.Module
    order: int = -1
    calls: int = 0
    output: Any = None
    edge: GradientEdge | None = None
    storage: tuple[int, int] = (0, 0)
    reshape: Reshape | None = None
    note: str = ""
    spatial: tuple[int, ...] | None = None
    parametric: bool = field(default=False)

    @property
    def candidate(self) -> bool:
        return (
            self.calls == 1
            and self.parametric
            and self.edge is not None
            and self.spatial is not None
            and not isinstance(self.module, nn.Linear)  # projections, such as queries and keys
            and math.prod(self.spatial) > 1
        )


def probe_layers(
    model: nn.Module | LoadedModel,
    inputs: Any,
    target: TargetRequest = None,
    *,
    output: Selector | None = None,
    image: int | str | None = None,
    reshape: Reshape | None = None,
    registry: Registry | None = None,
    class_names: Sequence[str] = (),
    scored: bool = True,
) -> LayerReport:
    """Every layer of a model for one input.

    Args:
        model: an `nn.Module` or a `LoadedModel`.
        inputs: what to call it with, see `explain`.
        target: what is explained; the default layer must influence it.
        output: which part of the model's output is explained.
        image: which of several inputs is the image.
        reshape: how layers are read, if that is known.
        registry: plugins to ask for layouts (default: the installed ones).
        class_names: names a target may use, if the model is not a `LoadedModel`.
        scored: whether the score matters; if not, a model without class scores is fine.

    Raises:
        LayerError: no layer has a picture that the score depends on.
    """
    plain = unwrap(model.model if isinstance(model, LoadedModel) else model)
    batch = ModelInputs.of(inputs.inputs if isinstance(inputs, Prepared) else inputs, image)
    registry = registry or default_registry()
    loaded = model if isinstance(model, LoadedModel) else None
    if output is None and loaded is not None:
        output = loaded.output
    context = TargetContext(
        model=plain,
        image=batch.image,
        class_names=loaded.class_names if loaded else tuple(class_names),
        loaded=loaded,
    )

    spent = 1

    def rerun(inputs: Any) -> Any:
        nonlocal spent
        spent += 1
        return select(run(plain, ModelInputs.of(inputs), Plan()).output, output)

    def bind(explained: Any) -> BoundTarget:
        try:
            with torch.no_grad():
                clean = map_tensors(Tensor.detach, explained)
                return as_target(target, clean, registry, context).bind(clean, rerun)
        except TargetError:
            if scored or target is not None:
                raise
            return BoundNothing()

    seen, result = _watch(plain, batch, Shadow(plain, _hookable(plain)))
    if _idle(seen) and not any(original(module).training for module in plain.modules()):
        # Layers that are called past the module tree are heard on the model itself only.
        seen, result = _watch(plain, batch, None)
    report = _look(plain, batch, bind, output, reshape, registry, seen, result)
    return dataclasses.replace(report, forwards=spent)


def _idle(seen: Sequence[_Seen]) -> bool:
    """Whether a layer with parameters did not run."""
    return any(not one.calls and next(one.module.parameters(), None) is not None for one in seen)


def _look(
    model: nn.Module,
    batch: ModelInputs,
    bind: Callable[[Any], BoundTarget],
    output: Selector | None,
    reshape: Reshape | None,
    registry: Registry,
    seen: Sequence[_Seen],
    result: Any,
) -> LayerReport:
    ran = sorted((one for one in seen if one.calls), key=lambda one: one.order)
    for one in ran:
        _read(one, model, batch.image, registry, reshape)
    chosen, reason = _known(registry.default_layer(model, batch.image), ran)
    if chosen is None:
        explained = select(map_tensors(exact, result), output)
        chosen, reason = _choose(ran, explained, bind(explained), batch.image)
    rows = tuple(_row(one, chosen) for one in ran)
    return LayerReport(rows, chosen.name, reason)


def _hookable(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]


def _watch(model: nn.Module, batch: ModelInputs, shadow: Shadow | None) -> tuple[list[_Seen], Any]:
    """One pass with the graph on and all modules hooked: the shadow's, or else the model's own."""
    hookable = set(_hookable(model))
    named = [(name, module) for name, module in model.named_modules() if name]
    seen = [_Seen(name, module) for name, module in named if module in hookable]
    clock, recorder = iter(range(10**9)), object()
    find = shadow.of if shadow else original
    handles = [
        find(one.module).register_forward_hook(_observer(one, clock, recorder)) for one in seen
    ]
    try:
        guard = training_guard(shadow) if shadow else nullcontext()
        with torch.inference_mode(False), torch.enable_grad(), active(recorder), guard:
            batch = batch.fresh()
            image = batch.image.detach().clone().requires_grad_().clone()
            output = answer(shadow.root if shadow else model, batch.with_image(image))
            check_batch(model, batch, output)
            return seen, output
    finally:
        for handle in handles:
            handle.remove()


def _observer(one: _Seen, clock: Any, recorder: object) -> Any:
    def look(module: nn.Module, args: Any, output: Any) -> None:
        if not is_active(recorder):
            return
        one.calls += 1
        one.order = next(clock)
        found = floating(output)
        one.output = map_tensors(lambda t: t.detach().to("meta"), output)
        one.parametric = next(module.parameters(), None) is not None
        if len(found) == 1:
            one.storage = (found[0].data_ptr(), found[0].numel())
            if found[0].requires_grad:
                one.edge = get_gradient_edge(found[0])

    return look


def _read(
    one: _Seen, model: nn.Module, image: Tensor, registry: Registry, given: Reshape | None
) -> None:
    try:
        # Not empty_like: on meta tensors it imports a computer algebra system.
        like = map_tensors(lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), one.output)
        one.reshape = given or find_reshape(registry, model, one.name, one.module, like, image)
        one.spatial = tuple(one.reshape.to_spatial(like).shape[2:])
    except Exception as error:  # a reshape made for another layer may fail in any way
        one.reshape, one.note = None, str(error) if isinstance(error, LayoutError) else ""


def _known(name: str | None, ran: Sequence[_Seen]) -> tuple[_Seen | None, str]:
    found = next((one for one in ran if one.name == name), None)
    return found, "the usual layer of this model family"


def _choose(
    ran: Sequence[_Seen], explained: Any, bound: BoundTarget, image: Tensor
) -> tuple[_Seen, str]:
    candidates = [one for one in ran if one.candidate]
    if not candidates:
        raise LayerError(_nothing_to_draw(ran))
    recent = candidates[-_LOOK_BACK:]
    gradients = _gradients(recent, explained, bound, image)
    reached = [
        (one, gradient)
        for one, gradient in zip(reversed(recent), reversed(gradients), strict=True)
        if gradient is not None and _spreads(one, gradient)
    ]
    features = (one for one, gradient in reached if not _is_answer(one, gradient, explained))
    for one in (*features, *(one for one, _ in reached)):
        _refuse_if_blind(one, ran)
        return _outermost(one, candidates), _reason(one, candidates)
    if any(gradient is not None and bool(gradient.any()) for gradient in gradients):
        raise LayerError(
            "the score depends on one position only in each of the last "
            f"{len(recent)} layers that can be drawn; give layers= (see `camkit layers`)"
        )
    _refuse_if_blind(candidates[-1], ran)
    last = _outermost(candidates[-1], candidates)
    return last, "the last layer with a picture (the score has no gradient to check it with)"


def _gradients(
    recent: Sequence[_Seen], explained: Any, bound: BoundTarget, image: Tensor
) -> Sequence[Tensor | None]:
    with torch.enable_grad():
        score = bound(explained, torch.arange(len(image), device=image.device))
    if not score.requires_grad:
        return [None] * len(recent)
    edges = [one.edge for one in recent]
    found: Sequence[Tensor | None] = torch.autograd.grad(
        score,
        edges,  # type: ignore[arg-type]
        grad_outputs=torch.ones_like(score),
        allow_unused=True,
    )
    return found


def _nothing_to_draw(ran: Sequence[_Seen]) -> str:
    tokens = next((one.note for one in reversed(ran) if "tokens" in one.note), "")
    return tokens or (
        f"none of {len(ran)} layers returns something readable as [N, C, *S] with more than one "
        "position; give layers= and reshape= (see `camkit layers`)"
    )


def _placed(one: _Seen, gradient: Tensor) -> Tensor:
    """A gradient at the layer as `[N, C, *S]`."""
    assert one.reshape is not None
    box = map_tensors(lambda t: gradient if torch.is_floating_point(t) else t, one.output)
    return one.reshape.to_spatial(box).detach()


def _spreads(one: _Seen, gradient: Tensor) -> bool:
    """Whether the score depends on more than one position of the layer."""
    if [gradient.shape] != [t.shape for t in floating(one.output)]:
        return False
    spatial = _placed(one, gradient)
    reached = (spatial != 0).any(1).flatten(1).sum(1)
    return bool((reached > 1).any())


def _is_answer(one: _Seen, gradient: Tensor, explained: Any) -> bool:
    """Whether the layer has a channel per class of a dense answer, and the score reads only one.

    It is the answer, at a lower resolution perhaps, and not what the answer was read from.
    """
    maps = _placed(one, gradient)
    read = (maps != 0).flatten(2).any(2).sum(1)
    dense = [t.shape[1] for t in floating(explained) if t.ndim == maps.ndim]
    return maps.shape[1] in dense and bool((read <= 1).all())


def _refuse_if_blind(one: _Seen, ran: Sequence[_Seen]) -> None:
    """Do not settle for an early layer only because later ones could not be read."""
    # What has no parameters only passes on what the module before it made.
    later = [r for r in ran if r.parametric and r.order > one.order and r.spatial is None]
    later = [r for r in later if "tokens" in r.note]
    later = [r for r in later if 4 * tensors(r.output)[0].shape[1] >= math.prod(one.spatial or ())]
    if len(later) > 2:
        raise LayerError(
            f"the last layer readable as a picture is {one.name!r}, but {len(later)} later ones "
            f"return tokens: {later[-1].note}"
        )


def _outermost(one: _Seen, candidates: Sequence[_Seen]) -> _Seen:
    """The container that returns the very same tensor, because its name is the usual one."""
    same = [
        other
        for other in candidates
        if other.storage == one.storage and f"{one.name}.".startswith(f"{other.name}.")
    ]
    return min(same, key=lambda other: len(other.name))


def _reason(one: _Seen, candidates: Sequence[_Seen]) -> str:
    skipped = sum(other.order > one.order for other in candidates)
    reason = "the last layer with a picture that the score depends on"
    return f"{reason}; {skipped} later layer(s) no longer reach it" if skipped else reason


def _row(one: _Seen, chosen: _Seen) -> LayerRow:
    note = one.note if one.calls == 1 else f"name one call: '{one.name}#0' ..."
    return LayerRow(
        name=one.name,
        kind=type(one.module).__name__,
        output=describe(one.output).removeprefix("tensor "),
        spatial=one.spatial,
        calls=one.calls,
        default=one is chosen,
        note=note,
        reshape=repr(one.reshape) if one.reshape and one.spatial is not None else "",
    )


def _cache_key(
    model: nn.Module,
    batch: ModelInputs,
    target: TargetRequest,
    selector: Selector | None,
    reshape: Reshape | None,
) -> Any:
    """Key of a default layer; None where functions or other objects take part in the choice.

    All classes are read from the same scores, so they share a default layer; other words do not.
    """
    plain = target is None or isinstance(target, int | str | list | tuple | Tensor | ClassTarget)
    if isinstance(target, list | tuple):
        plain = all(isinstance(one, int | str) for one in target)
    named = selector is None or isinstance(selector, str | int)
    if not (plain and named and isinstance(reshape, Hashable)):
        return None
    word = target if isinstance(target, str) and ":" in target and rank_of(target) is None else ""
    size = tuple(batch.image.shape[1:])
    return (size, selector, reshape, word, tuple(map(id, model.modules())))


_REMEMBERED = 16
_DEFAULTS: WeakKeyDictionary[nn.Module, dict[Any, str]] = WeakKeyDictionary()


def default_layer(
    model: nn.Module,
    batch: ModelInputs,
    target: TargetRequest,
    *,
    selector: Selector | None,
    reshape: Reshape | None,
    registry: Registry,
    loaded: LoadedModel | None = None,
    scored: bool = True,
) -> tuple[str, int]:
    """Name of the layer to explain, and the forwards spent: one per model and input shape."""
    known = registry.default_layer(model, batch.image)
    if known is not None:
        return known, 0
    shape = _cache_key(model, batch, target, selector, reshape)
    defaults = _DEFAULTS.setdefault(model, {}) if shape else {}
    if shape in defaults:
        return defaults[shape], 0
    inputs: Any = dict(batch.kwargs) if batch.kwargs else batch.args
    report = probe_layers(
        loaded or model,
        inputs,
        target,
        output=selector,
        image=batch.key,
        reshape=reshape,
        registry=registry,
        scored=scored,
    )
    while len(defaults) >= _REMEMBERED:
        defaults.pop(next(iter(defaults)))
    defaults[shape] = report.default
    return report.default, report.forwards
