"""Gradients of many targets with respect to the layers of one forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 2**26
_HEAVY = ("Convolution", "Attention", "Bmm", "Conv", "Rnn", "Fft")
_MAX_NODES = 200

Score = Callable[[int], Tensor]


class Gradients:
    """Vector-Jacobian products of scores `[N]` with respect to `leaves`, one target at a time.

    Where the part of the model behind the leaves is light, several targets share one batched pass;
    behind convolutions or attention a loop is as fast and needs less memory.

    Attributes:
        backwards: passes made so far.
    """

    def __init__(
        self, score: Score, leaves: Sequence[Tensor], targets: int, *, double: bool = False
    ) -> None:
        """`score(t)` gives the scores of target t, attached to the graph."""
        self._score = score
        self._leaves = list(leaves)
        self._targets = targets
        self._double = double
        self._batched = targets > 1 and not double
        self._ready: dict[int, list[Tensor | None]] = {}
        self.backwards = 0

    def rebase(self, leaves: Sequence[Tensor]) -> None:
        """Continue with the leaves of another pass through the same model."""
        self._leaves = list(leaves)
        self._ready.clear()

    def of(self, target: int) -> list[Tensor | None]:
        """Gradient at every leaf, None where the score does not depend on it."""
        if target not in self._ready:
            self._ready.clear()
            self._ready.update(self._compute(target))
        return self._ready[target]

    def product(self, target: int, leaf: int, vector: Tensor) -> Tensor:
        """Hessian-vector product at one leaf (needs `double`); zero where the score is linear."""
        gradient, at = self.of(target)[leaf], self._leaves[leaf]
        if gradient is None or not gradient.requires_grad:
            return torch.zeros_like(at)
        self.backwards += 1
        with torch.enable_grad():
            (found,) = torch.autograd.grad(
                gradient, at, grad_outputs=vector, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(at) if found is None else found

    def _compute(self, target: int) -> dict[int, list[Tensor | None]]:
        first = self._score(target)
        if self._batched and _is_light(first, self._leaves):
            block = range(target, min(self._targets, target + self._chunk()))
            found = self._together(first, block)
            if found is not None:
                return found
            self._batched = False
        return {target: self._alone(first, target)}

    def _alone(self, score: Tensor, target: int) -> list[Tensor | None]:
        self.backwards += 1
        last = target == self._targets - 1
        found = torch.autograd.grad(
            score,
            self._leaves,
            grad_outputs=torch.ones_like(score),
            retain_graph=self._double or not last,
            create_graph=self._double,
            allow_unused=True,
        )
        return list(found)

    def _together(self, first: Tensor, block: range) -> dict[int, list[Tensor | None]] | None:
        with torch.enable_grad():
            rest = [self._score(target).sum() for target in block[1:]]
            scores = torch.stack([first.sum(), *rest])
        seeds = torch.eye(len(block), dtype=scores.dtype, device=scores.device)
        self.backwards += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # vmap's note on slow operators
                found = torch.autograd.grad(
                    scores,
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
        if len(seen) > _MAX_NODES or any(word in node.name() for word in _HEAVY):
            return False
        todo.extend(parent for parent, _ in node.next_functions)
    return True
