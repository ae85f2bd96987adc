"""The score that the tokens of any block would have as those of the last one.

The model runs again with every block answered from what it returned before, so that only what comes
before the first and behind the last block is computed, and the last answer may be exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from camkit_core.attention_read import blocks_of, intact, last_of
from camkit_core.attention_watch import Block
from camkit_core.errors import CapabilityError
from camkit_core.outputs import select
from camkit_core.record import KeepGrad, answer
from camkit_core.rerun import rounding
from camkit_core.session import Session
from camkit_core.shadow import Shadow, training_guard
from camkit_core.tree import exact, floating, map_tensors


def exit_gradients(
    session: Session, target: int, position: int, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Gradient at the weights of block `position` of the score of its changed tokens.

    Raises:
        CapabilityError: the block's tokens do not fit the last one's, or the model cannot be cut.
    """
    block, (_, last) = intact(blocks_of(session)[position]), last_of(session)
    if block.output is None or last.output is None or not block.output.requires_grad:
        raise CapabilityError(
            f"no module around {block.name!r} returns its tokens, or its graph is gone, so they "
            "cannot be scored by what comes behind the last block"
        )
    tokens = block.tokens(exact(block.output.detach()))
    if tokens.shape != last.tokens(last.output).shape:
        raise CapabilityError(
            f"tokens of {block.block!r} are {list(tokens.shape)}, those of the last block "
            f"{last.block!r} {list(last.tokens(last.output).shape)}: what comes behind cannot read "
            "them; start at a later block"
        )
    with torch.enable_grad():
        free = tokens.requires_grad_()
        slope = _slope(session, target, free, change(free))
        weights = block.opened.weights
        session.tally.backwards += 1
        (found,) = torch.autograd.grad(
            block.output,
            weights,
            grad_outputs=block.untokens(slope).to(block.output.dtype),
            retain_graph=True,
            materialize_grads=True,
        )
    found = exact(found.detach())
    return found if found.ndim == 4 else found.unflatten(0, (len(session.image), -1))


def slope_at_exit(session: Session, target: int) -> Tensor:
    """Gradient of the score at the tokens of the last block, `[N, T, C]`."""
    _, last = last_of(session)
    assert last.output is not None
    with torch.enable_grad():
        free = last.tokens(exact(last.output.detach())).requires_grad_()
        return _slope(session, target, free, free)


def _slope(session: Session, target: int, free: Tensor, tokens: Tensor) -> Tensor:
    """Derivative, at `free`, of the score that `tokens` made of it have behind the last block."""
    _check(session)
    explained = _run(session, tokens)
    score = session.bound[target](explained, session.owner)
    if not score.requires_grad:
        return torch.zeros_like(free).detach()
    session.tally.backwards += 1
    (found,) = torch.autograd.grad(score.sum(), free, materialize_grads=True)
    return found.detach()


def _check(session: Session) -> None:
    """The last block's own tokens must give the clean output.

    Raises:
        CapabilityError: they do not.
    """
    if "exit" in session.memo:
        return
    _, last = last_of(session)
    assert last.output is not None
    found = floating(_run(session, last.tokens(exact(last.output.detach()))))
    clean, bound = floating(session.explained), rounding(session)
    for one, other in zip(found, clean, strict=True):
        off = (one.detach() - other.detach()).abs().max() if one.numel() else one.new_zeros(())
        if not bool(off <= bound * other.detach().abs().max()):
            raise CapabilityError(
                f"the model cannot be cut behind its last block {last.block!r}: with all blocks "
                f"answered as before, its output differs by {float(off):.3g}; it uses something of "
                "the blocks besides what they return"
            )
    session.memo["exit"] = True


def _run(session: Session, tokens: Tensor) -> Any:
    """The explained output, with `tokens` `[N, T, C]` as the last block's."""
    position, last = last_of(session)
    intact(last)
    assert last.output is not None
    put = last.untokens(tokens).to(last.output.dtype)
    answers: dict[int, tuple[Block, list[Any]]] = {}
    # What attends behind the last block, to pool its tokens, is part of what scores them.
    for block in session.done.blocks[: position + 1]:
        if block.module is None:
            continue
        _, waiting = answers.setdefault(id(block.module), (block, []))
        waiting.append(_with(block.container, put) if block is last else _plain(block.container))
    modules = [block.module for block, _ in answers.values() if block.module is not None]
    shadow = Shadow(session.model, modules)
    for block, waiting in answers.values():
        assert block.module is not None
        shadow.of(block.module).__dict__["forward"] = _Canned(waiting)
    session.tally.tail()
    with session.autocast(), training_guard(shadow), torch.enable_grad(), KeepGrad():
        output = answer(shadow.root, session.inputs.usable().fresh())
    left = next((block for block, waiting in answers.values() if waiting), None)
    if left is not None:
        raise CapabilityError(
            f"block {left.block!r} is called past the module tree, so the model cannot be cut "
            "behind its blocks"
        )
    return select(map_tensors(exact, output), session.selector)


class _Canned:
    """A forward that answers with what was returned before."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._answers.pop(0)


def _plain(container: Any) -> Any:
    return map_tensors(Tensor.detach, container)


def _with(container: Any, tokens: Tensor) -> Any:
    """The container with its first floating tensor exchanged."""
    first = floating(container)[0]
    return map_tensors(lambda tensor: tokens if tensor is first else tensor.detach(), container)
