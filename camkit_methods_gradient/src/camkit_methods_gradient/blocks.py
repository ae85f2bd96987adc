"""What the attention methods share. P `[N, heads, T, T]`: weights from queries (rows) to keys."""

from __future__ import annotations

from torch import Tensor

from camkit_core import Attention, CapabilityError, Capture, OptionError


def blocks(
    capture: Capture, start: int = 0, stop: int | None = None
) -> list[tuple[int, Attention]]:
    """Blocks start to stop, as a Python slice counts, with their positions in the capture.

    Attention that pools all tokens into a few behind the last block is part of the head, no block.

    Raises:
        OptionError: the slice is empty.
        CapabilityError: a block in it does not go from all tokens of the picture to all of them.
    """
    found, count = list(enumerate(capture.attention)), len(capture.readers)
    while found[-1][1].weights.shape[-2] != count == found[-1][1].weights.shape[-1]:
        found.pop()
    chosen = found[start:stop]
    if not chosen:
        raise OptionError(
            f"start={start}, stop={stop} leaves none of the {len(found)} blocks; they count from 0"
        )
    for _, block in chosen:
        if block.weights.shape[-2:] != (count, count):
            queries, keys = block.weights.shape[-2:]
            raise CapabilityError(
                f"{block.layer!r} attends from {queries} to {keys} tokens, but the last block has "
                f"{count}: relevance cannot be handed through it; choose blocks with start= and "
                "stop="
            )
    return chosen


def read(capture: Capture, relevance: Tensor) -> Tensor:
    """Relevance `[N, T, T]` of keys for queries as a picture `[N, *S]`.

    The rows are those of the tokens that the score reads: the class token's, or the average over
    all patches of a model that averages them.
    """
    return on_grid(capture, relevance[:, capture.readers].mean(1))


def on_grid(capture: Capture, relevance: Tensor) -> Tensor:
    """Relevance `[N, T]` of tokens as a picture `[N, *S]`."""
    return relevance[:, capture.grid]
