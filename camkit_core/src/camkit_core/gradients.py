"""Gradients of many targets with respect to the layers of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import CaptureError
from camkit_core.switches import quiet_vmap

_CHUNK_BYTES = 3 * 2**22  # larger blocks spend their time on fresh memory pages
_HEAVY = ("Convolution", "Attention", "Bmm", "Conv", "Rnn", "Fft")
_MAX_NODES = 200

Scores = Callable[[Sequence[int]], list[Tensor]]


@dataclass(slots=True)
class Tally:
    """Passes of one call, shared by everything that makes them."""

    forwards: int = 0
    backwards: int = 0


class Gradients:
    """Vector-Jacobian products of scores `[N]` with respect to `leaves`, one target at a time.

    Where the part of the model behind the leaves is light, several targets share one batched pass;
    behind convolutions or attention a loop is as fast and needs less memory.

    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        targets: int,
        tally: Tally,
        *,
        double: bool = False,
    ) -> None:
        """`double` keeps what second derivatives need."""
        self._leaves = list(leaves)
        self._targets = targets
        self._double = double
        self._batched = targets > 1 and not double
        self._ready: dict[int, list[Tensor | None]] = {}
        self._tally = tally

    def rebase(self, leaves: Sequence[Tensor]) -> None:
        """Continue with the leaves of another pass through the same model."""
        self._leaves = list(leaves)
        self._ready.clear()

    def of(self, target: int, scores: Scores) -> list[Tensor | None]:
        """Gradient at every leaf, None where the score does not depend on it.

        `scores(targets)` gives the scores of each of them, attached to the graph.
        """
        if target not in self._ready:
            self._ready.clear()
            self._ready.update(self._compute(target, scores))
        return self._ready[target]

    def product(self, target: int, leaf: int, vector: Tensor, scores: Scores) -> Tensor:
        """Hessian-vector product at one leaf (needs `double`); zero where the score is linear."""
        gradient, at = self.of(target, scores)[leaf], self._leaves[leaf]
        if gradient is None or not gradient.requires_grad:
            return torch.zeros_like(at)
        self._tally.backwards += 1
        with torch.enable_grad():
            (found,) = torch.autograd.grad(
                gradient, at, grad_outputs=vector, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(at) if found is None else found

    def _compute(self, target: int, scores: Scores) -> dict[int, list[Tensor | None]]:
        (first,) = scores([target])
        if self._batched and _is_light(first, self._leaves):
            block = range(target, min(self._targets, target + self._chunk()))
            found = self._together(first, block, scores)
            if found is not None:
                return found
            self._batched = False
        return {target: self._alone(first, target)}

    def _alone(self, score: Tensor, target: int) -> list[Tensor | None]:
        self._tally.backwards += 1
        last = target == self._targets - 1
        try:
            found = torch.autograd.grad(
                score,
                self._leaves,
                grad_outputs=torch.ones_like(score),
                retain_graph=self._double or not last,
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

    def _together(
        self, first: Tensor, block: range, scores: Scores
    ) -> dict[int, list[Tensor | None]] | None:
        rest = scores(block[1:])
        with torch.enable_grad():
            sums = torch.stack([first, *rest]).sum(1)
        seeds = torch.eye(len(block), dtype=sums.dtype, device=sums.device)
        self._tally.backwards += 1
        try:
            with quiet_vmap():
                found = torch.autograd.grad(
                    sums,
                    self._leaves,
                    grad_outputs=seeds,
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

    def _chunk(self) -> int:
        size = sum(leaf.numel() * leaf.element_size() for leaf in self._leaves)
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
