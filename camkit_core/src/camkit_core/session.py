"""What the methods and targets of one call share: one forward pass and what follows from it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.errors import CapabilityError, CaptureError, LayoutError, TargetError
from camkit_core.gradients import Gradients, Tally
from camkit_core.inputs import ModelInputs
from camkit_core.layers import Layer
from camkit_core.need import Need
from camkit_core.outputs import Selector, select
from camkit_core.protocols import BoundTarget, Reshape, Target
from camkit_core.record import Pass, run
from camkit_core.recorder import LinearCall, Plan
from camkit_core.registry import Registry
from camkit_core.remember import recall
from camkit_core.reshapes import find_reshape
from camkit_core.trace import Place
from camkit_core.tree import exact, floating, map_tensors
from camkit_core.unread import place_of

_DERIVATIVES = Need.GRADIENTS | Need.SECOND_ORDER


class Session:
    """One model, one batch, a set of layers and targets.

    The forward pass runs in the constructor, in the caller's autocast; everything after it belongs
    inside `arithmetic(grad=False)`. Gradients are computed when first asked for.

    Attributes:
        reshapes: layer name -> how its output is read.
        bound: the targets, settled on the clean output.
        tally: passes made so far.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        layers: Sequence[Layer],
        needs: Need,
        registry: Registry,
        *,
        selector: Selector | None = None,
        reshape: Reshape | None = None,
        reshapes: Mapping[str, Reshape] | None = None,
        attended: bool = False,
        differentiable: bool = False,
        batch_size: int | str | None = None,
        budget: int | None = None,
        precision: str = "exact",
        tally: Tally | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Run the model once and read every captured layer.

        `attended` asks for gradients at the attention, if that is among the needs.
        """
        self.model = model
        self.inputs = inputs
        self.layers = tuple(layers)
        self.needs = needs
        self.registry = registry
        self.batch_size = batch_size
        self.budget = budget
        self.precision = precision
        self.progress = progress
        self.notes: list[str] = []
        # What further runs found out or built, for as long as the call lasts. Whatever is put
        # there refers to this as `weak`: in a cycle the memory of a call would be given back late.
        self.memo: dict[Hashable, Any] = {}
        self.weak: Session = weakref.proxy(self)
        self.selector = selector
        self.reshape = reshape
        self.differentiable = differentiable
        self.attended = attended and Need.ATTENTION in needs
        self.plan = Plan(
            layers=self.layers,
            gradients=bool(needs & _DERIVATIVES) and bool(layers),
            input_gradients=Need.INPUT_GRADIENTS in needs,
            differentiable=differentiable,
            double_backward=differentiable or Need.SECOND_ORDER in needs,
            head=Need.HEAD in needs,
            attention=Need.ATTENTION in needs,
            attention_gradients=self.attended,
            tail=Need.TAIL in needs,
            copied=_copied(model, layers),
            unread=_unread(model, layers, inputs),
        )
        # Row i of the clean output belongs to image i.
        self.owner = torch.arange(len(inputs.image), device=inputs.image.device)
        self.tally = tally or Tally()
        self.asked = 0  # rows that methods asked for
        self.held = 0  # bytes of what was built to run them
        self._whole = False
        self.autocast = _current_autocast(inputs.image.device.type)
        self._run(keep_grad=False)
        self.reshapes = reshapes or {
            layer.name: reshape or self._read(layer) for layer in self.layers
        }
        self.bound: tuple[BoundTarget, ...] = ()

    # -- forward -----------------------------------------------------------------------------

    def _run(self, *, keep_grad: bool) -> None:
        self.done: Pass = run(self.model, self.inputs, self.plan, keep_grad=keep_grad)
        self.tally.whole(self.done.forwards, self.done.forwards)
        self._leaves = [t for layer in self.layers for t in floating(self.done.kept[layer.name])]
        self._at_layers = len(self._leaves)
        if self.attended:
            self._leaves += [t for block in self.done.blocks for t in block.nodes]
        if self.plan.input_gradients:
            self._leaves.append(self.done.image)
        self._activations: dict[str, Tensor] = {}
        self._released: dict[tuple[int, str], Tensor] = {}
        self._scores: dict[int, Tensor] = {}
        # In float32 or better; may carry the graph.
        with self.arithmetic(grad=True):
            self.explained = select(map_tensors(exact, self.done.output), self.selector)

    def _read(self, layer: Layer) -> Reshape:
        output = self.done.kept[layer.name]
        return find_reshape(self.registry, self.model, layer.name, layer.module, output, self.image)

    @property
    def image(self) -> Tensor:
        """`[N, C, *S]`, detached."""
        return self.done.image.detach()

    @property
    def output(self) -> Any:
        """The model's output, detached unless maps are to be differentiable."""
        return self._cut(self.done.output)

    def _cut(self, tree: Any) -> Any:
        """Values for methods and users: without the graph, unless it was asked for."""
        return tree if self.differentiable else map_tensors(Tensor.detach, tree)

    @property
    def linear_calls(self) -> list[LinearCall]:
        """Calls of linear layers during the pass, if the head was asked for."""
        return self.done.linear

    def layer(self, name: str) -> Layer:
        """A captured layer by name."""
        return next(layer for layer in self.layers if layer.name == name)

    def note(self, text: str) -> None:
        """Say something in the provenance, once."""
        if text not in self.notes:
            self.notes.append(text)

    def run_plain(self, inputs: Any) -> Any:
        """Output for other inputs: eval mode, no gradients (what targets bind with)."""
        self.tally.whole()
        whole = inputs if isinstance(inputs, ModelInputs) else ModelInputs.of(inputs)
        with self.autocast():
            return select(run(self.model, whole, Plan()).output, self.selector)

    # -- targets -----------------------------------------------------------------------------

    def bind(self, targets: Sequence[Target]) -> None:
        """Settle every target on the clean output."""
        clean = map_tensors(Tensor.detach, self.explained)
        self.adopt(tuple(target.bind(clean, self.run_plain) for target in targets))

    def adopt(self, bound: tuple[BoundTarget, ...]) -> None:
        """Use targets that are settled already."""
        self.bound = bound
        self._scores.clear()
        self._gradients = Gradients(
            self._leaves,
            len(bound),
            self.tally,
            double=self.plan.double_backward,
            keep=self.attended,
        )

    def score(self, target: int) -> Tensor:
        """Scores `[N]`, detached."""
        if target not in self._scores:
            self._scored(target)
        return self._scores[target]

    def _scored(self, target: int, output: Any = None) -> Tensor:
        images = len(self.inputs.image)
        score = self.bound[target](self.explained if output is None else output, self.owner)
        if not isinstance(score, Tensor) or score.shape != (images,):
            shape = list(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise TargetError(
                f"target {self.bound[target].describe().label!r} scored {shape} for {images} "
                f"images; it must return one number per image, [{images}]"
            )
        self._scores[target] = self._cut(score)
        return score

    def attached(self, target: int) -> Tensor:
        """Scores `[N]`, connected to the graph.

        Raises:
            TargetError: no gradient connects them to anything captured.
        """
        with self.arithmetic(grad=True):
            score = self._scored(target)
            if not score.requires_grad and self._reconnect():
                score = self._scored(target)
        if not score.requires_grad:
            raise TargetError(self.disconnected(target))
        return score

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors of the explained output that depend on a captured layer."""
        return [tensor for tensor in floating(self.explained) if tensor.requires_grad]

    def seeds(self, target: int) -> list[Tensor]:
        """Derivative of the summed scores with respect to each of the `outputs`."""
        free: list[Tensor] = []

        def cut(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            free.append(tensor.detach().requires_grad_())
            return free[-1]

        with self.arithmetic(grad=True):
            score = self._scored(target, map_tensors(cut, self.explained))
        if not score.requires_grad:
            raise TargetError(self.disconnected(target))
        ones = torch.ones_like(score)
        return list(torch.autograd.grad(score, free, ones, materialize_grads=True))

    def _reconnect(self) -> bool:
        """Run again with gradients even where the model's own code says `no_grad`, once."""
        if self._whole:
            return False
        self._whole = True
        with self.autocast():
            self._run(keep_grad=True)
        self._gradients.rebase(self._leaves)
        self.done.notes.append(
            "no gradient reached the layer, so the model ran again with its own no_grad off"
        )
        return True

    def disconnected(self, target: int) -> str:
        """What to say when no gradient arrives."""
        label = self.bound[target].describe().label
        space = "the attention of any block" if self.attended else "the input"
        where = ", ".join(layer.name for layer in self.layers) or space
        return (
            f"the score of {label!r} is not connected to {where} by gradients: argmax, .item(), "
            ".detach(), NMS or inference_mode in the model or target cut it; remove that, or use a "
            "method without gradients (see `camkit methods`)"
        )

    def is_finite(self, target: int) -> bool:
        """Whether score and layer outputs are finite (looked at when something went wrong)."""
        seen = [
            self.score(target),
            *(t for kept in self.done.kept.values() for t in floating(kept)),
        ]
        return all(bool(torch.isfinite(tensor).all()) for tensor in seen)

    # -- what methods read -------------------------------------------------------------------

    def activations(self, layer: str) -> Tensor:
        """`[N, C, *S]`, detached, float32 or better."""
        if layer not in self._activations:
            kept = self._cut(self.done.kept[layer])
            self._activations[layer] = self._laid(exact(self._spatial(layer, kept)))
        return self._activations[layer]

    def _laid(self, maps: Tensor) -> Tensor:
        """Channels last in memory where rows will be made from them: a CPU pools those faster."""
        if Need.TAIL in self.needs and maps.ndim == 4 and maps.device.type == "cpu":
            return maps.contiguous(memory_format=torch.channels_last)
        return maps

    def gradients(self, target: int, layer: str) -> Tensor:
        """Gradient of the score at a layer, `[N, C, *S]`, detached, float32 or better."""
        if (target, layer) in self._released:
            return self._released[target, layer]
        found = self._at_layer(target, layer)
        return exact(self._spatial(layer, self._cut(found)))

    def keep(self, target: int, layer: str) -> None:
        """Compute a gradient that is asked for after the graph is gone."""
        found = self.gradients(target, layer)
        self._released[target, layer] = found

    def release(self) -> None:
        """Drop the graph."""
        self.done.output = map_tensors(Tensor.detach, self.done.output)
        self.explained = map_tensors(Tensor.detach, self.explained)
        for name, kept in self.done.kept.items():
            self.done.kept[name] = map_tensors(Tensor.detach, kept)
        for block in self.done.blocks:
            block.detach()
        self._leaves = [tensor.detach() for tensor in self._leaves]
        self.adopt(self.bound)

    def input_gradients(self, target: int) -> Tensor:
        """Gradient of the score at the image, `[N, C, *S]`."""
        (found,) = self._reaching(target, slice(-1, None))
        if found is None:
            raise TargetError(self.disconnected(target))
        return exact(self._cut(found))

    def attention_gradients(self, target: int) -> list[Tensor | None]:
        """Gradient of the score at every node of every attention block, in their order.

        The blocks may be those of another pass afterwards.
        """
        found = self._at_attention(target)
        if all(gradient is None for gradient in found) and self._reconnect():
            found = self._at_attention(target)
        return [None if one is None else exact(one.detach()) for one in found]

    def _at_attention(self, target: int) -> list[Tensor | None]:
        gradients = self._gradients.of(target, self)
        count = sum(len(block.nodes) for block in self.done.blocks)
        return gradients[self._at_layers : self._at_layers + count]

    def hvp(self, target: int, layer: str, vector: Tensor) -> Tensor:
        """Hessian of the score at a layer times `vector` `[N, C, *S]`."""
        kept = self.done.kept[layer]
        if len(floating(kept)) != 1:
            raise CapabilityError(f"layer {layer!r} returns several tensors: no Hessian product")
        # The reshape is linear, so its own derivative carries the vector back to the layer.
        with torch.enable_grad():
            like = self._spatial(layer, kept)
            (raw,) = torch.autograd.grad(like, floating(kept)[0], vector.to(like.dtype))
        product = self._gradients.product(target, self._position(layer), raw, self)
        return exact(self._spatial(layer, _refill(kept, [product])).detach())

    def _at_layer(self, target: int, layer: str) -> Any:
        start = self._position(layer)
        here = self._reaching(target, slice(start, start + len(floating(self.done.kept[layer]))))
        if all(gradient is None for gradient in here):
            raise CaptureError(
                f"no gradient of {self.bound[target].describe().label!r} reaches layer {layer!r}: "
                "it is on a branch the score does not use, or something behind it has no "
                "derivative (quantized or custom operators, reentrant activation checkpointing); "
                "choose another layer, or a method without gradients"
            )
        return _refill(self.done.kept[layer], here)

    def _reaching(self, target: int, leaves: slice) -> list[Tensor | None]:
        found = self._gradients.of(target, self)[leaves]
        if all(gradient is None for gradient in found) and self._reconnect():
            found = self._gradients.of(target, self)[leaves]
        return found

    def _position(self, layer: str) -> int:
        names = [one.name for one in self.layers]
        before = names[: names.index(layer)]
        return sum(len(floating(self.done.kept[name])) for name in before)

    def _spatial(self, layer: str, output: Any) -> Tensor:
        maps = self.reshapes[layer].to_spatial(output)
        if not isinstance(maps, Tensor) or maps.ndim < 3 or len(maps) != len(self.inputs.image):
            shape = list(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise LayoutError(
                f"the reshape of layer {layer!r} gave {shape}; it must give [N, C, *S] with "
                f"N = {len(self.inputs.image)}"
            )
        return maps

    @contextmanager
    def arithmetic(self, *, grad: bool) -> Iterator[None]:
        """Modes for everything but the model itself: no autocast, no inference mode."""
        device = self.inputs.image.device.type
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            torch.autocast(device, enabled=False),
        ):
            yield


def _current_autocast(device: str) -> Callable[[], torch.autocast]:
    """The caller's autocast, for passes made while arithmetic has it switched off."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype=dtype, enabled=enabled)


def _copied(model: nn.Module, layers: Sequence[Layer]) -> frozenset[Place]:
    """Calls before the layers whose output is known to be written to behind them."""
    known = (recall(model, ("copied", layer.name)) or () for layer in layers)
    return frozenset(place for places in known for place in places)


def _unread(
    model: nn.Module, layers: Sequence[Layer], inputs: ModelInputs
) -> dict[str, frozenset[Place]]:
    """Calls before each layer whose output is known not to be read behind it."""
    tree = inputs.args, inputs.kwargs
    known = {layer.name: recall(model, place_of(layer.name, tree)) for layer in layers}
    return {name: places for name, places in known.items() if places}


def _refill(like: Any, values: Sequence[Tensor | None]) -> Any:
    """The container `like` with its floating tensors replaced; None becomes zero."""
    rest = iter(values)

    def change(tensor: Tensor) -> Tensor:
        if not torch.is_floating_point(tensor):
            return tensor
        value = next(rest)
        return torch.zeros_like(tensor) if value is None else value

    return map_tensors(change, like)
