"""Opens the attention of one forward pass: softmax weights that can be read and differentiated.

While the model runs, its calls of fused attention are answered by the same function written out,
softmax(q k^T * scale + mask) v, and compared with what the fused kernel returns; attention that the
model writes out itself is recognised as a softmax whose result multiplies values. Both are seen by
a function mode of this thread, so no setting of the process and no module changes.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from camkit_core.errors import CapabilityError, CaptureError
from camkit_core.tree import exact

_SOFTMAX = (torch.softmax, functional.softmax, Tensor.softmax)
_PRODUCT = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)
_SAME = (
    *(Tensor.to, Tensor.type_as, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16),
    *(Tensor.contiguous, Tensor.clone, Tensor.view, Tensor.reshape, Tensor.flatten),
    *(Tensor.unflatten, torch.dropout, functional.dropout),
)
"""Functions that hand weights on as they are (dropout does nothing in evaluation mode)."""

_ELSEWHERE = re.compile(r"attention|attn|flash|mha_", re.IGNORECASE)
_OURS = re.compile(r"canonical_mask|mha_shape_check|fastpath|sdp_|can_use")


@dataclass(slots=True, eq=False)
class Opened:
    """One attention of a pass, still attached to the graph.

    Attributes:
        layer: the innermost module that was running.
        weights: softmax weights as the model has them, `[..., queries, keys]`.
        output: weights times values, `[..., queries, D]`; None where they were not recognised.
    """

    layer: str
    weights: Tensor
    queries: Tensor | None
    keys: Tensor | None
    values: Tensor | None
    output: Tensor | None
    version: int = 0


@dataclass(slots=True, eq=False)
class _Pending:
    """A softmax that may turn out to be attention."""

    layer: str
    weights: Tensor
    queries: Tensor | None
    keys: Tensor | None


class Opener(TorchFunctionMode):
    """The function mode of one pass.

    Attributes:
        opened: attention in the order of execution.
        unopened: what looks like attention but could not be opened, in words.
        started: the graph has begun.
        interrupted: the model switched gradients off after that.
    """

    def __init__(
        self, where: Callable[[], str], active: Callable[[], bool], *, gradients: bool
    ) -> None:
        """`where` names the running module; `gradients` starts the graph at the first weights."""
        super().__init__()
        self.opened: list[Opened] = []
        self.unopened: list[str] = []
        self.started = self.interrupted = False
        self._where, self._active, self._gradients = where, active, gradients
        self._products: deque[tuple[Tensor, Tensor, torch.Size]] = deque(maxlen=4)
        self._pending: dict[int, tuple[Tensor, _Pending]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function, opened if it is attention."""
        kwargs = kwargs or {}
        if not self._active():
            return func(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            with self:
                return _seen_through(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._fused(func, *args, **kwargs)
        return self._followed(func, args, kwargs, func(*args, **kwargs))

    def close(self) -> None:
        """The pass is over: check what was opened, and note what was not.

        Raises:
            CaptureError: weights were overwritten after they were used.
        """
        self._products.clear()
        for one in {id(p): p for _, p in self._pending.values()}.values():
            shape = one.weights.shape
            if len(shape) == 4 and shape[-1] == shape[-2]:
                self.unopened.append(
                    f"a softmax {list(shape)} in {one.layer!r} whose result does not multiply "
                    "values as it is (talking heads, or weights changed afterwards)"
                )
        self._pending.clear()
        for done in self.opened:
            if done.weights._version != done.version:
                raise CaptureError(
                    f"the model overwrites the attention weights of {done.layer!r} after their "
                    "softmax, so what it multiplies the values with is not what was captured; "
                    "write that step without an in-place operation"
                )

    def _fused(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p:
            raise CapabilityError(
                f"{self._where()!r} drops attention weights at random (dropout_p={dropout_p}) in "
                "evaluation mode, so there is no one attention to show; set its dropout to 0"
            )
        words = {"scale": scale, "enable_gqa": enable_gqa}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._gradients):
            kernel: Tensor = func(query, key, value, attn_mask, 0.0, is_causal, **words)
        if enable_gqa:
            key, value = (_repeated(t, query.shape[-3]) for t in (key, value))
        self._start()
        with (
            torch.set_grad_enabled(self._gradients),
            torch.autocast(query.device.type, enabled=False),
        ):
            q, k, v = exact(query), exact(key), exact(value)
            factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
            logits = q @ k.transpose(-2, -1) * factor
            weights = self._leaf(_softmax(_masked(logits, attn_mask, is_causal)))
            output = weights @ v
        self._verify(kernel, output.detach(), logits.detach(), v.detach())
        self._add(Opened(self._where(), weights, q, k, v, output))
        return output.to(kernel.dtype) if self._gradients else kernel

    def _verify(self, kernel: Tensor, output: Tensor, logits: Tensor, values: Tensor) -> None:
        """What was written out must be what the kernel computed."""
        if not output.numel():
            return
        eps = torch.finfo(kernel.dtype).eps
        if kernel.is_cuda and kernel.dtype == torch.float32:
            eps = 1e-3 if torch.backends.cuda.matmul.allow_tf32 else eps
        finite = logits.masked_fill(logits.isinf(), 0).abs().amax()
        allowed = 16 * eps * (8 + finite) * values.abs().amax()
        off = (kernel.to(output.dtype) - output).abs().amax()
        # What is not finite in the model itself is refused later, with the layer it begins in.
        if not bool(off <= allowed) and bool(kernel.isfinite().all()):
            raise CaptureError(
                f"the attention of {self._where()!r} cannot be opened: softmax(q k^T) v written "
                f"out differs from what the fused kernel returned by {float(off):.3g} (allowed "
                f"{float(allowed):.3g}), so its weights are not known; switch the model to its "
                "plain attention (attn_implementation='eager', fused_attn=False)"
            )

    def _followed(self, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """Note products, softmaxes, and what the softmaxes are used for."""
        if func in _SOFTMAX:
            return self._softmax(args, kwargs, result)
        if func in _PRODUCT and len(args) > 1:
            self._product(args[0], args[1], result)
        elif func is torch.baddbmm and len(args) > 2:
            self._product(args[1], args[2], result)
        elif func is torch.einsum and len(args) == 3 and isinstance(args[0], str):
            self._einsum(args[0], args[1], args[2], result)
        elif func in _SAME and args and id(args[0]) in self._pending:
            self._alias(args[0], result)
        else:
            self._look_elsewhere(func)
        return result

    def _softmax(self, args: Any, kwargs: Any, result: Tensor) -> Tensor:
        dim = kwargs["dim"] if "dim" in kwargs else args[1] if len(args) > 1 else None
        if result.ndim < 3 or dim not in (-1, result.ndim - 1):
            return result
        found = (pair for pair in reversed(self._products) if pair[2] == result.shape)
        queries, keys, _ = next(found, (None, None, None))
        if self._gradients:
            self._start()
            result = self._leaf(result)
        pending = _Pending(self._where(), result, queries, keys)
        self._pending[id(result)] = result, pending
        return result

    def _product(self, left: Any, right: Any, result: Tensor) -> None:
        waiting = self._pending.get(id(left))
        if waiting is None:
            if result.ndim >= 3 and right.ndim >= 2:
                self._products.append((left, right.transpose(-2, -1), result.shape))
        elif right.ndim >= 3 and right.shape[-2] == left.shape[-1]:
            self._found(waiting[1], right, result)

    def _einsum(self, equation: str, left: Tensor, right: Tensor, result: Tensor) -> None:
        first, second, out = re.split(",|->", equation.replace(" ", "") + "->" * 2)[:3]
        waiting = self._pending.get(id(left))
        if waiting is None:
            if result.ndim >= 3 and first[-1:] == second[-1:] and out[-1:] == second[-2:-1]:
                self._products.append((left, right, result.shape))
        elif second[-2:-1] == first[-1:] and out == first[:-1] + second[-1:]:
            self._found(waiting[1], right, result)
        else:
            self._found(waiting[1], None, None)

    def _found(self, waiting: _Pending, values: Tensor | None, output: Tensor | None) -> None:
        """The softmax is attention."""
        self._pending = {k: pair for k, pair in self._pending.items() if pair[1] is not waiting}
        self._add(
            Opened(waiting.layer, waiting.weights, waiting.queries, waiting.keys, values, output)
        )

    def _alias(self, weights: Tensor, result: Any) -> None:
        waiting = self._pending[id(weights)][1]
        if isinstance(result, Tensor) and result.shape[-2:] == waiting.weights.shape[-2:]:
            self._pending[id(result)] = result, waiting

    def _look_elsewhere(self, func: Any) -> None:
        name = getattr(func, "__name__", None) or str(func)
        if _ELSEWHERE.search(name) and not _OURS.search(name):
            self.unopened.append(f"{name} in {self._where()!r}")

    def _start(self) -> None:
        if not self._gradients:
            return
        self.interrupted = self.interrupted or (self.started and not torch.is_grad_enabled())
        self.started = True
        torch.set_grad_enabled(True)

    def _leaf(self, weights: Tensor) -> Tensor:
        """The graph begins here, unless something before it is followed already."""
        if self._gradients and not weights.requires_grad:
            return weights.detach().requires_grad_()
        return weights

    def _add(self, one: Opened) -> None:
        one.version = one.weights._version
        self.opened.append(one)


def _softmax(logits: Tensor) -> Tensor:
    """Of the last axis; zero, as in PyTorch's kernels, where everything is masked."""
    nothing = (logits == -torch.inf).all(-1, keepdim=True)
    return logits.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)


def _masked(logits: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    if causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~seen, -torch.inf)
    if mask is None:
        return logits
    if mask.dtype == torch.bool:
        return logits.masked_fill(~mask, -torch.inf)
    return logits + mask.to(logits.dtype)


def _repeated(tensor: Tensor, heads: int) -> Tensor:
    """Keys or values of grouped heads, once for every query head."""
    return tensor.repeat_interleave(heads // tensor.shape[-3], -3)


_MULTI_HEAD: Any = functional.multi_head_attention_forward
# PyTorch's own function hands itself to the mode as a whole; told that there is none, the same code
# runs step by step, and the mode sees the attention in it.
_seen_through = FunctionType(
    _MULTI_HEAD.__code__,
    {**_MULTI_HEAD.__globals__, "has_torch_function": lambda tensors: False},
    _MULTI_HEAD.__name__,
    _MULTI_HEAD.__defaults__,
    _MULTI_HEAD.__closure__,
)
_seen_through.__kwdefaults__ = _MULTI_HEAD.__kwdefaults__
