"""One forward pass that keeps the outputs of chosen layers.

Below the first captured layer no graph is built. The pass runs on a shadow of the model, once, or
again in another way where the recorder says that the first cannot be trusted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camkit_core.attention_watch import Block, refuse_scripted
from camkit_core.errors import CamkitError, CaptureError
from camkit_core.inputs import ModelInputs, check_batch, diagnose
from camkit_core.recorder import How, LinearCall, Plan, Recorder, active, is_linear
from camkit_core.shadow import Shadow, original, training_guard
from camkit_core.switches import eager, math_attention
from camkit_core.trace import Trace
from camkit_core.tree import tensors


@dataclass(slots=True)
class Pass:
    """What is left of one forward pass."""

    output: Any
    image: Tensor
    kept: dict[str, Any]  # layer name -> output container of leaves or graph nodes
    linear: list[LinearCall] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forwards: int = 1
    stored: bool = False  # a captured output is held by something else and may be used again
    wrote: bool = False  # the model writes to what it is called with
    traces: dict[str, Trace] = field(default_factory=dict)  # layer name -> what came before it
    blocks: tuple[Block, ...] = ()  # attention in order of execution, attached to the graph
    unopened: tuple[str, ...] = ()  # what looks like attention, but was not opened


def run(model: nn.Module, inputs: ModelInputs, plan: Plan, *, keep_grad: bool = False) -> Pass:
    """Run the model once (rarely twice) as planned, on a shadow of it.

    Args:
        model: the plain model; it is not changed.
        inputs: what to call it with.
        plan: what to keep.
        keep_grad: build the graph even where the model's own code says `no_grad`.

    Raises:
        CaptureError: a layer never ran, ran several times, or there is no such call.
        InputError: the model refused the input, and the reason is known.
    """
    how = How(keep_grad=keep_grad, from_start=plan.differentiable)
    done, notes = 0, list[str]()
    while True:
        recorder = Recorder(plan, how, len(inputs.image))
        output, image = _attempt(model, inputs, recorder)
        done += 1
        remedy = recorder.remedy()
        if remedy is None:
            break
        how = replace(how, **{remedy: True})
        notes.append(_NOTES[remedy])
    recorder.check()
    suspect = recorder.rewritten() or (plan.layers[0].name if recorder.stored else "")
    if suspect:
        done += 1
        _check_same(model, inputs, output, suspect)
    return Pass(
        output,
        image,
        recorder.kept,
        recorder.linear,
        notes,
        done,
        recorder.stored,
        recorder.wrote,
        {trace.layer.name: trace for trace in recorder.traces},
        recorder.watch.blocks(model) if recorder.watch else (),
        tuple(dict.fromkeys(recorder.watch.mode.unopened)) if recorder.watch else (),
    )


_NOTES = {
    "on_model": "a layer is called past the module tree, so for one pass hooks were set on the "
    "model itself",
    "from_start": "the model switches gradients off or back behind the layer, so the graph was "
    "built from the start",
    "as_is": "the layer's output is stored somewhere and may be used again, so it was not replaced",
    "isolate": "a captured output shares memory that was written later, so a copy was kept",
}


def _check_same(model: nn.Module, inputs: ModelInputs, output: Any, layer: str) -> None:
    """A clone handed on misses what the model writes through another name: compare outputs.

    Raises:
        CaptureError: the plain model answers differently.
    """
    with torch.inference_mode(False), torch.no_grad():
        plain = inputs.fresh().call(Shadow(model, []).root)
    pairs = zip(tensors(plain), tensors(output), strict=True)
    if not all(torch.equal(wanted, found.detach()) for wanted, found in pairs):
        raise CaptureError(
            f"the output of layer {layer!r} is shared or stored under another name, and the model "
            "writes to that memory later, so the layer cannot be cut out of the computation; "
            "choose the layer before or behind it"
        )


def _attempt(model: nn.Module, inputs: ModelInputs, recorder: Recorder) -> tuple[Any, Tensor]:
    return (_on_model if recorder.how.on_model else _on_shadow)(model, inputs, recorder)


def _on_shadow(model: nn.Module, inputs: ModelInputs, recorder: Recorder) -> tuple[Any, Tensor]:
    wanted = [layer.module for layer in recorder.plan.layers]
    if recorder.plan.head:
        wanted += [module for module in model.modules() if is_linear(module)]
    if recorder.plan.tail:
        plan = recorder.plan
        recorder.traces = [
            Trace.of(model, layer, plan.copied, plan.unread.get(layer.name, frozenset()))
            for layer in plan.layers
        ]
        wanted += [module for trace in recorder.traces for module in trace.family.values()]
    if recorder.watch:
        refuse_scripted(model)
        wanted += [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    shadow = Shadow(model, wanted)
    with _hooked(recorder, shadow.of, model), training_guard(shadow):
        return _call(shadow.root, inputs, recorder)


def _on_model(model: nn.Module, inputs: ModelInputs, recorder: Recorder) -> tuple[Any, Tensor]:
    """Hooks on the model itself, heard by this call only, and gone afterwards."""
    recorder.traces = []
    if any(original(module).training for module in model.modules()):
        raise CaptureError(
            f"layer {recorder.plan.layers[0].path!r} or another is reached past the module tree, "
            "so it cannot run on a copy of the model in eval mode; call model.eval() first"
        )
    with _hooked(recorder, original, model), eager():
        return _call(model, inputs, recorder)


@contextlib.contextmanager
def _hooked(
    recorder: Recorder, find: Callable[[nn.Module], nn.Module], model: nn.Module
) -> Iterator[None]:
    handles = recorder.attach(find, model)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _call(root: nn.Module, inputs: ModelInputs, recorder: Recorder) -> tuple[Any, Tensor]:
    plan, how = recorder.plan, recorder.how
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        grad = plan.input_gradients or how.keep_grad or how.from_start
        stack.enter_context(torch.set_grad_enabled(grad))
        if how.keep_grad:
            stack.enter_context(KeepGrad())
        if plan.double_backward:
            stack.enter_context(math_attention())
        image, fresh = inputs.usable().image.detach(), inputs.fresh()
        if plan.input_gradients:
            image = image.clone().requires_grad_()
            fresh = fresh.with_image(image.clone())
        before = [(tensor, tensor._version) for tensor in tensors((fresh.args, fresh.kwargs))]
        stack.enter_context(active(recorder))
        if recorder.watch:
            stack.enter_context(eager())
            stack.enter_context(recorder.watch.mode)
        output = answer(root, fresh, how)
        recorder.look_back()
        recorder.wrote = any(tensor._version != version for tensor, version in before)
    check_batch(root, inputs, output)
    return output, image


def answer(root: nn.Module, inputs: ModelInputs, how: How | None = None) -> Any:
    """The model's output, or a clear error where the reason of a failure is known."""
    try:
        return inputs.call(root)
    except CamkitError:
        raise
    except Exception as error:
        if how and how.as_is and "leaf Variable" in str(error):
            raise CaptureError(
                "a captured output is stored somewhere and written to in place later, so it cannot "
                "be cut out of the computation; choose the layer before or behind it"
            ) from error
        better = diagnose(error, root, inputs)
        if better is error:
            raise
        raise better from error


class KeepGrad(TorchFunctionMode):
    """Ignores `no_grad` in the model's own code."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch._C._set_grad_enabled:
            return func(True)
        return func(*args, **(kwargs or {}))
