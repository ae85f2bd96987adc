"""Gradients of many targets with respect to the layers of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from camkit_core.errors import CaptureError
from camkit_core.switches import quiet_vmap

_CHUNK_BYTES = 3 * 2**22  # larger blocks spend their time on fresh memory pages
_HEAVY = ("Convolution", "Attention", "Bmm", "Conv", "Rnn", "Fft")
_MAX_NODES = 200


class Scored(Protocol):
    """What a session tells about its scores."""

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors of the model's output that depend on the leaves."""
        ...

    def attached(self, target: int) -> Tensor:
        """Scores `[N]`, connected to the graph."""
        ...

    def seeds(self, target: int) -> list[Tensor]:
        """Derivative of the summed scores with respect to each of the `outputs`."""
        ...


@dataclass(slots=True)
class Tally:
    """Passes of one call, shared by everything that makes them.

    Attributes:
        forwards: passes through the whole model, of any number of rows.
        backwards: passes of the autograd engine.
        tails: passes from a layer on, of any number of rows.
        used: work so far in forwards of the clean batch, which is what a budget limits.
    """

    forwards: int = 0
    backwards: int = 0
    tails: int = 0
    used: float = 0.0

    def whole(self, work: float = 1.0, passes: int = 1) -> None:
        """Passes through the whole model were made."""
        self.forwards += passes
        self.used += work

    def tail(self, work: float = 0.0) -> None:
        """A pass from a layer on was made."""
        self.tails += 1
        self.used += work


class Gradients:
    """Vector-Jacobian products of scores `[N]` with respect to `leaves`, one target at a time.

    Where the part of the model behind the leaves is light, several targets share one batched pass;
    behind convolutions or attention a loop is as fast and needs less memory. The batched pass
    begins at the model's output, with the derivative of each score there, so that only the model's
    own operators are batched and a target may run any code.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        targets: int,
        tally: Tally,
        *,
        double: bool = False,
        keep: bool = False,
    ) -> None:
        """`double` keeps what second derivatives need, `keep` the graph for other uses."""
        self._leaves = list(leaves)
        self._targets = targets
        self._double = double
        self._keep = keep
        self._batched = targets > 1 and not double
        self._ready: dict[int, list[Tensor | None]] = {}
        self._tally = tally

    def rebase(self, leaves: Sequence[Tensor]) -> None:
        """Continue with the leaves of another pass through the same model."""
        self._leaves = list(leaves)
        self._ready.clear()

    def of(self, target: int, scored: Scored) -> list[Tensor | None]:
        """Gradient at every leaf, None where the score does not depend on it."""
        if target not in self._ready:
            self._ready.clear()
            self._ready.update(self._compute(target, scored))
        return self._ready[target]

    def product(self, target: int, leaf: int, vector: Tensor, scored: Scored) -> Tensor:
        """Hessian-vector product at one leaf (needs `double`); zero where the score is linear."""
        gradient, at = self.of(target, scored)[leaf], self._leaves[leaf]
        if gradient is None or not gradient.requires_grad:
            return torch.zeros_like(at)
        self._tally.backwards += 1
        with torch.enable_grad():
            (found,) = torch.autograd.grad(
                gradient, at, grad_outputs=vector, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(at) if found is None else found

    def _compute(self, target: int, scored: Scored) -> dict[int, list[Tensor | None]]:
        score = scored.attached(target)
        if self._batched and _is_light(score, self._leaves):
            block = range(target, min(self._targets, target + self._chunk(scored.outputs)))
            found = self._together(block, scored)
            if found is not None:
                return found
            self._batched = False
        return {target: self._alone(score, target)}

    def _alone(self, score: Tensor, target: int) -> list[Tensor | None]:
        self._tally.backwards += 1
        last = target == self._targets - 1
        try:
            found = torch.autograd.grad(
                score,
                self._leaves,
                grad_outputs=torch.ones_like(score),
                retain_graph=self._double or self._keep or not last,
                create_graph=self._double,
                allow_unused=True,
            )
        except RuntimeError as error:
            if "use_reentrant" not in str(error) and "Checkpointing" not in str(error):
                raise
            raise CaptureError(
                "activation checkpointing with use_reentrant=True hides the graph behind the "
                "layer; switch it off for explaining, e.g. model.set_grad_checkpointing(False) or "
                "model.gradient_checkpointing_disable()"
            ) from error
        return list(found)

    def _together(self, block: range, scored: Scored) -> dict[int, list[Tensor | None]] | None:
        seeds = [scored.seeds(target) for target in block]
        self._tally.backwards += 1
        try:
            with quiet_vmap():
                found = torch.autograd.grad(
                    scored.outputs,
                    self._leaves,
                    grad_outputs=[torch.stack(column) for column in zip(*seeds, strict=True)],
                    is_grads_batched=True,
                    retain_graph=True,
                    allow_unused=True,
                )
        except RuntimeError:  # an operator without a batching rule
            return None
        return {
            target: [None if g is None else g[row] for g in found]
            for row, target in enumerate(block)
        }

    def _chunk(self, outputs: Sequence[Tensor]) -> int:
        size = sum(one.numel() * one.element_size() for one in (*self._leaves, *outputs))
        return max(1, _CHUNK_BYTES // max(size, 1))


def _is_light(score: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Whether only cheap operations lie between the leaves and the score."""
    stop = {id(leaf.grad_fn) for leaf in leaves if leaf.grad_fn is not None}
    seen: set[Any] = set()
    todo: list[Any] = [score.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen or id(node) in stop:
            continue
        seen.add(node)
        if len(seen) > _MAX_NODES or any(word in type(node).__name__ for word in _HEAVY):
            return False
        todo.extend(parent for parent, _ in node.next_functions)
    return True
