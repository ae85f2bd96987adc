"""What methods see of the attention of a pass: tensors per block, the grid, the tokens read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from camkit_core.attention_watch import Block
from camkit_core.errors import CapabilityError, CaptureError, LayoutError, TargetError
from camkit_core.protocols import Attention, Reshape
from camkit_core.reshapes import ChannelsFirst, ChannelsLast, find_reshape
from camkit_core.session import Session
from camkit_core.targets import BoundNothing
from camkit_core.tree import exact


def attention_of(session: Session, target: int, *, gradients: bool) -> tuple[Attention, ...]:
    """Every block's attention, with the gradients of one target's score if they are asked for.

    Raises:
        CapabilityError: no attention, some that was not opened, or attention within windows.
        TargetError: the score does not depend on any of it.
    """
    place = ("attention", target if gradients else None)
    if place not in session.memo:
        blocks = blocks_of(session)
        if any(block.doubtful for block in blocks):
            grid_of(session)
        found = session.attention_gradients(target) if gradients else []
        if gradients and all(one is None for one in found):
            raise TargetError(session.disconnected(target))
        rest, images = iter(found), len(session.image)
        # Those of another pass, if the model had cut the graph.
        for block, before in zip(session.done.blocks, blocks, strict=True):
            block.order = before.order
        blocks = session.done.blocks
        session.memo[place] = tuple(_shown(block, rest, images, gradients) for block in blocks)
    shown: tuple[Attention, ...] = session.memo[place]
    return shown


def blocks_of(session: Session) -> tuple[Block, ...]:
    """The opened attention of a pass.

    Raises:
        CapabilityError: there is none, or not all of it can be shown as `[N, heads, Q, K]`.
    """
    blocks, images = session.done.blocks, len(session.image)
    if session.done.unopened:
        raise CapabilityError(
            f"the model attends in a way that cannot be opened: {'; '.join(session.done.unopened)};"
            " switch it to plain attention (attn_implementation='eager' or 'sdpa', "
            "fused_attn=False), or use a method that needs no attention (see `camkit methods`)"
        )
    if not blocks:
        raise CapabilityError(_none(session))
    for block in blocks:
        shape = block.opened.weights.shape
        whole = len(shape) == 4 and shape[0] == images
        if not whole and not (len(shape) == 3 and shape[0] % images == 0):
            raise CapabilityError(
                f"{block.name!r} attends in groups {list(shape)} for {images} image(s): within "
                "windows, frames or another input, so there are no weights between all tokens of "
                "an image; use a method that needs no attention, e.g. gradcam"
            )
    return blocks


def _none(session: Session) -> str:
    names = [
        f"{name} ({type(module).__name__})"
        for name, module in session.model.named_modules()
        if "attention" in type(module).__name__.lower()
    ]
    found = (
        f"it has {', '.join(names[:3])}, but no softmax in them was seen"
        if names
        else ("it has no module that attends, and no softmax of it multiplies values")
    )
    return (
        f"no attention ran in this {type(session.model).__name__}: {found}; attention in compiled "
        "or custom operators cannot be opened, and other networks need another method (see "
        "`camkit methods`)"
    )


def _shown(block: Block, rest: Iterator[Tensor | None], images: int, gradients: bool) -> Attention:
    """One block, with its share of the gradients, which come in the order of its nodes."""
    one, tokens = block.opened, block.output
    kept = tokens is not None and not block.overwritten

    def slope(node: Tensor | None) -> Tensor | None:
        if node is None or not gradients:
            return None
        found = next(rest) if node.requires_grad else None
        return torch.zeros_like(exact(node.detach())) if found is None else found

    def heads(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = exact(tensor.detach())
        return tensor if tensor.ndim == 4 else tensor.unflatten(0, (images, -1))

    weights, output, last = slope(one.weights), slope(one.output), slope(tokens)
    found = heads(one.weights)
    assert found is not None
    return Attention(
        layer=block.name,
        block=block.block,
        weights=found,
        gradients=heads(weights),
        queries=heads(one.queries),
        keys=heads(one.keys),
        values=heads(one.values),
        output=heads(one.output),
        output_gradients=heads(output),
        tokens=block.tokens(exact(tokens.detach())) if tokens is not None and kept else None,
        token_gradients=block.tokens(last) if last is not None and kept else None,
    )


def intact(block: Block) -> Block:
    """The block, if its tokens are still those it returned.

    Raises:
        CaptureError: the model wrote to them.
    """
    if block.overwritten:
        raise CaptureError(
            f"the model overwrites the tokens that {block.block!r} returned, so they are not known "
            "any more; write that step without an in-place operation"
        )
    return block


# -- the picture -------------------------------------------------------------------------------


def last_of(session: Session) -> tuple[int, Block]:
    """The last block whose tokens all attend to all, and its position.

    Raises:
        CapabilityError: no block does, or nothing around it returns its tokens.
    """
    blocks = blocks_of(session)
    for position in reversed(range(len(blocks))):
        shape = blocks[position].opened.weights.shape
        if shape[-1] == shape[-2] and blocks[position].output is not None:
            return position, blocks[position]
    raise CapabilityError(
        f"none of {len(blocks)} attentions is among the tokens that a module around it returns "
        f"(the last is {blocks[-1].name!r}, {list(blocks[-1].opened.weights.shape)}), so their "
        "weights belong to no picture; use a method that needs no attention"
    )


def grid_of(session: Session) -> Tensor:
    """Token of each position of the picture, `[*S]`.

    Raises:
        LayoutError: the reshape mixes tokens, or does not know these.
    """
    if "grid" not in session.memo:
        _, block = last_of(session)
        found = next(filter(lambda one: one is not None, _readings(session, block)), None)
        if found is None:
            raise LayoutError(
                f"the reshape of {block.block!r} does not select tokens: a position of its picture "
                "comes from several tokens or channels, so weights between tokens have no place"
            )
        session.memo["grid"] = found
        names = [one.name for one in session.done.blocks]
        size = "x".join(map(str, found.shape))
        session.note(f"attention of {len(names)} modules, {names[0]} to {names[-1]}, on {size}")
    grid: Tensor = session.memo["grid"]
    return grid


def _readings(session: Session, block: Block) -> Iterator[Tensor | None]:
    """What the block's reshape makes of numbered tokens, laid out in each way that may be right."""
    assert block.output is not None
    assert block.module is not None
    like = block.output.detach()
    if block.order == "time":  # as tokens [N, T, C] first, then as the block has them
        like = block.tokens(like)
    reshape = session.reshape or _by_count(block, session.image)
    if reshape is None:
        known = session.registry, session.model, block.block, block.module
        reshape = find_reshape(*known, like, session.image)
    tokens = block.tokens(block.output.detach())
    count = torch.arange(tokens.shape[1], device=like.device, dtype=torch.float32)
    numbers = count[None, :, None].expand(tokens.shape)
    if block.order == "time":
        with suppress(Exception):  # a reshape made for the other order may fail in any way
            yield _read(reshape, numbers)
    yield _read(reshape, block.untokens(numbers))
    if block.doubtful:
        for one in session.done.blocks:
            one.order = {"first": "last", "last": "first"}.get(one.order, one.order)  # type: ignore[assignment]
        yield _read(reshape, block.untokens(numbers))


def _read(reshape: Reshape, numbers: Tensor) -> Tensor | None:
    """Token of each position, if all channels and images agree on it."""
    picture = reshape.to_spatial(numbers)
    return picture[0, 0].round().long() if bool((picture == picture[:1, :1]).all()) else None


def _by_count(block: Block, image: Tensor) -> Reshape | None:
    """The layout of maps `[N, C, *S]` or `[N, *S, C]`, where only one has as many positions."""
    assert block.output is not None
    shape, count = block.output.shape, block.opened.weights.shape[-1]
    if block.order not in ("first", "last") or len(shape) != image.ndim:
        return None
    first, last = math.prod(shape[2:]) == count, math.prod(shape[1:-1]) == count
    if first == last:
        return None
    return ChannelsFirst() if first else ChannelsLast()


def readers_of(session: Session, target: int) -> Tensor:
    """Tokens of the last block that the score depends on, `[T]` of bool."""
    place = ("readers", target)
    if place not in session.memo:
        session.memo[place] = _readers(session, target)
    found: Tensor = session.memo[place]
    return found


def _readers(session: Session, target: int) -> Tensor:
    position, block = last_of(session)
    intact(block)
    slope = None
    if session.attended:
        slope = attention_of(session, target, gradients=True)[position].token_gradients
    elif not isinstance(session.bound[target], BoundNothing):
        from camkit_core.attention_exit import slope_at_exit

        slope = slope_at_exit(session, target)
    if slope is not None and bool((reached := (slope != 0).any(-1).any(0)).any()):
        return reached
    return _by_place(session, block)


def _by_place(session: Session, block: Block) -> Tensor:
    """The first token in no picture, else all of them."""
    outside = torch.ones(
        block.opened.weights.shape[-1], dtype=torch.bool, device=session.image.device
    )
    outside[grid_of(session).flatten()] = False
    if not bool(outside.any()):
        return ~outside
    first = torch.zeros_like(outside)
    first[outside.nonzero()[0]] = True
    return first
