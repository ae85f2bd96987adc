"""Which module each attention of a pass belongs to, and the tokens its block returned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from camkit_core.attention import Opened, Opener
from camkit_core.errors import CapabilityError
from camkit_core.tree import floating

Order = Literal["batch", "time", "first", "last"]
"""How a block's output holds tokens: `[N, T, C]`, `[T, N, C]`, `[N, C, *S]` or `[N, *S, C]`."""

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(slots=True, eq=False)
class Block:
    """One attention and the block around it: the widest module with no other attention in it.

    Attributes:
        name: of the attention, with "#call" if its module attended several times.
        block: of the block; empty if no module around the attention returns its tokens.
        container: what the block returned.
        output: the tensor in it that holds the tokens, in this `order`.
        doubtful: sizes alone do not tell whether channels are first or last.
    """

    name: str
    opened: Opened
    block: str = ""
    module: nn.Module | None = None
    container: Any = None
    output: Tensor | None = None
    order: Order = "batch"
    doubtful: bool = False
    version: int = 0

    @property
    def nodes(self) -> list[Tensor]:
        """Weights, attention output and block output, as far as the graph reaches them."""
        found = (self.opened.weights, self.opened.output, self.output)
        return [one for one in found if one is not None and one.requires_grad]

    @property
    def overwritten(self) -> bool:
        """Whether the model wrote to the tokens after the block had returned them."""
        return self.output is not None and self.output._version != self.version

    def detach(self) -> None:
        """Let go of the graph."""
        one = self.opened
        for name in ("weights", "queries", "keys", "values", "output"):
            tensor = getattr(one, name)
            setattr(one, name, None if tensor is None else tensor.detach())
        self.output = None if self.output is None else self.output.detach()
        self.container = None

    def tokens(self, output: Tensor) -> Tensor:
        """A tensor like the block's output as `[N, T, C]`."""
        if self.order == "time":
            return output.transpose(0, 1)
        if self.order == "first":
            return output.flatten(2).transpose(1, 2)
        return output.flatten(1, -2)  # "batch" has nothing to flatten

    def untokens(self, tokens: Tensor) -> Tensor:
        """`[N, T, C]` laid out as the block's output."""
        assert self.output is not None
        if self.order == "time":
            return tokens.transpose(0, 1)
        if self.order == "first":
            return tokens.transpose(1, 2).reshape(self.output.shape)
        return tokens.reshape(self.output.shape)


@dataclass(slots=True)
class _Span:
    """One call of a module during which attention was opened."""

    name: str
    first: int
    last: int
    container: Any
    version: int


class Watch:
    """Hooks that follow which module runs, and the function mode that opens attention."""

    def __init__(self, images: int, active: Callable[[], bool], *, gradients: bool) -> None:
        """For a batch of `images`; hears nothing while `active()` is false."""
        self._images, self._active = images, active
        self._running: list[tuple[str, int]] = []
        self._spans: list[_Span] = []
        # Not a method of this object, which holds the mode: nobody collects a circle in time.
        self.mode = Opener(partial(_innermost, self._running), active, gradients=gradients)

    @property
    def interrupted(self) -> bool:
        """Whether the model switched gradients off after the graph had begun."""
        return self.mode.interrupted or (self.mode.started and not torch.is_grad_enabled())

    def attach(
        self, find: Callable[[nn.Module], nn.Module], model: nn.Module
    ) -> Iterator[RemovableHandle]:
        """Hooks on every module that can have any."""
        known: set[int] = set()
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule) or id(find(module)) in known:
                continue
            known.add(id(find(module)))
            yield find(module).register_forward_pre_hook(partial(self._enter, name))
            yield find(module).register_forward_hook(partial(self._leave, name))

    def blocks(self, model: nn.Module) -> tuple[Block, ...]:
        """What was opened, once the pass is over."""
        self.mode.close()
        modules = dict(model.named_modules())
        names = _numbered([one.layer for one in self.mode.opened])
        pairs = zip(names, self.mode.opened, strict=True)
        blocks = [Block(name, one) for name, one in pairs]
        for index, block in enumerate(blocks):
            self._place(block, index, modules)
        self._spans.clear()
        return tuple(blocks)

    def _place(self, block: Block, index: int, modules: dict[str, nn.Module]) -> None:
        """The widest module around one attention alone that returns its tokens."""
        alone = [span for span in self._spans if (span.first, span.last) == (index, index + 1)]
        queries = block.opened.weights.shape[-2]
        attention = modules.get(block.opened.layer)
        found = [
            (span, *place)
            for span in alone
            if span.name and (place := _tokens_in(span.container, self._images, queries, attention))
        ]
        if not found:
            return
        members = [one for one in found if _is_member(one[0].name, modules)]
        span, tensor, orders = (members or found)[-1]
        block.block, block.module, block.container = span.name, modules[span.name], span.container
        block.output, block.order, block.version = tensor, orders[0], span.version
        block.doubtful = orders[:2] == ("first", "last") and tensor.ndim > 3

    def _enter(self, name: str, module: nn.Module, args: Any) -> None:
        if self._active():
            self._running.append((name, len(self.mode.opened)))

    def _leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if not self._active():
            return
        # A module that raised, in a model that carries on, never came here.
        while self._running and self._running[-1][0] != name:
            self._running.pop()
        _, first = self._running.pop() if self._running else ("", 0)
        last, found = len(self.mode.opened), floating(output)
        if last > first:
            version = found[0]._version if found else 0
            self._spans.append(_Span(name, first, last, output, version))


def refuse_scripted(model: nn.Module) -> None:
    """Attention in TorchScript runs where no function mode sees it.

    Raises:
        CapabilityError: before the model runs, with the name of the module.
    """
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            continue
        code = str(getattr(module, "inlined_graph", ""))
        if "softmax" in code or "scaled_dot_product" in code:
            raise CapabilityError(
                f"{name or 'the model'} is compiled TorchScript with attention in it, which cannot "
                "be opened; explain the Python model it was compiled from, or use a method that "
                "needs no attention (see `camkit methods`)"
            )


def _innermost(running: list[tuple[str, int]]) -> str:
    return (running[-1][0] if running else "") or "the model"


def _numbered(names: list[str]) -> list[str]:
    """Names, with the number of the call where there are several."""
    total, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        found.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
        seen[name] += 1
    return found


def _is_member(name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether a module is one of several in a row, as blocks are."""
    return bool(name) and isinstance(modules.get(name.rpartition(".")[0]), _CONTAINERS)


def _tokens_in(
    container: Any, images: int, count: int, attention: nn.Module | None
) -> tuple[Tensor, tuple[Order, ...]] | None:
    """The tensor of a module's output that holds `count` tokens of each image, and how it may."""
    found = floating(container)
    if not found or found[0].ndim < 3:
        return None
    tensor, shape = found[0], tuple(found[0].shape)
    orders: dict[Order, tuple[int, int]] = {
        "batch": (shape[0], shape[1] if len(shape) == 3 else 0),
        "time": (shape[1], shape[0] if len(shape) == 3 else 0),
        "first": (shape[0], math.prod(shape[2:])),
        "last": (shape[0], math.prod(shape[1:-1])),
    }
    fitting = tuple(order for order, sizes in orders.items() if sizes == (images, count))
    if "time" in fitting and getattr(attention, "batch_first", True) is False:
        return tensor, ("time",)
    return (tensor, fitting) if fitting else None
