"""Finds the windows a layer works in, from what the block around it says of its window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from camkit_core import ChannelsFirst, LayoutError, Reshape
from camkit_tasks.reshapes.patches import Grid, pyramid
from camkit_tasks.reshapes.windows import Windows

_UNFOLDING = {"MobileVitV2Block": "norm", "MobileViTV2Layer": "layernorm"}
"""Blocks of timm and transformers whose `transformer`, and norm, see patches `[N, C, P, K]`."""


def find_windows(
    model: nn.Module, around: Sequence[nn.Module], layer: nn.Module, output: Tensor, image: Tensor
) -> Reshape | None:
    """The windows of a layer's output; None if it is not cut, or not by a block known here.

    Raises:
        LayoutError: several grids fit; the message has them.
    """
    if image.ndim != 4 or not len(image):
        return None
    for block in around:
        if type(block).__name__ == "PartitionAttentionLayer":  # torchvision's MaxViT
            return _partition(block, layer, output)
        if type(block).__name__ in _UNFOLDING:
            return _unfolded(model, block, layer, output, image)
        if len(output) > len(image) and _cuts(block):
            return _cut(model, block, output, image)
    return None


def _cuts(block: nn.Module) -> bool:
    swin = hasattr(block, "window_size") and hasattr(block, "shift_size")
    return swin or (hasattr(block, "partition_size") and hasattr(block, "partition_block"))


# -- Swin-type blocks, and timm's MaxViT: [N * windows, ...] -------------------------------------


def _cut(model: nn.Module, block: nn.Module, output: Tensor, image: Tensor) -> Windows | None:
    window = _window(block, output)
    if window is None or len(output) % len(image):
        return None
    each = len(output) // len(image)
    grids = [grid for grid in pyramid(model, image) if _windows(grid, window) == each]
    if len(grids) > 1:
        grids = _said(block, image, grids)
    if len(grids) > 1:
        raise LayoutError(
            f"{each} windows of {_by(window)} per image make a picture of "
            f"{' or of '.join(map(_by, grids))}; say reshape='windows:window={_by(window)},"
            f"grid={_by(grids[0])}'"
        )
    return _placed(block, window, grids[0]) if grids else None


def _window(block: nn.Module, output: Tensor) -> Grid | None:
    """The window in use: small pictures get smaller ones than the block was built with."""
    said = getattr(block, "window_size", None) or getattr(block, "partition_size", None)
    window = (said, said) if isinstance(said, int) else tuple(said or ())
    if output.ndim == 4:
        used = tuple(output.shape[1:3])
        return used if used[0] * used[1] <= math.prod(window) else None
    if output.ndim != 3:
        return None
    if math.prod(window) == output.shape[1]:
        return window
    side = math.isqrt(output.shape[1])
    return (side, side) if side * side == output.shape[1] and side < window[0] else None


def _said(block: nn.Module, image: Tensor, grids: list[Grid]) -> list[Grid]:
    """Those of several grids that go with what the block says of itself.

    The transformers library pads between stages, which its own `input_resolution` leaves out.
    """
    if _pads_first(block):
        return [grid for grid in grids if _rounded_up(grid, image)]
    said = getattr(block, "input_resolution", None)
    own = tuple(said) if isinstance(said, Sequence) else (said, said)
    return [own] if own in grids else grids


def _rounded_up(grid: Grid, image: Tensor) -> bool:
    sizes = list(zip(image.shape[2:], grid, strict=True))
    strides = {2 ** round(math.log2(length / cells)) for length, cells in sizes}
    return any(all(-(-length // s) == cells for length, cells in sizes) for s in strides)


def _windows(grid: Grid, window: Grid) -> int:
    return math.prod(-(-length // side) for length, side in zip(grid, window, strict=True))


def _placed(block: nn.Module, window: Grid, grid: Grid) -> Windows:
    if hasattr(block, "partition_block"):
        return Windows(window=window, grid=grid, spread=not block.partition_block)
    padded: Literal["after", "before"] = "before" if _pads_first(block) else "after"
    return Windows(window=window, grid=grid, shift=_shift(block, window, grid), padded=padded)


def _pads_first(block: nn.Module) -> bool:
    """The transformers library pads first and shifts all or nothing; timm shifts first."""
    return hasattr(block, "maybe_pad")


def _shift(block: nn.Module, window: Grid, grid: Grid) -> Grid:
    said: Any = block.shift_size
    if isinstance(said, int):
        return (said, said) if said and min(grid) > max(window) else ()
    moved = tuple(said)
    if not getattr(block, "always_partition", False):
        moved = tuple(
            0 if length <= side else step
            for step, length, side in zip(moved, grid, window, strict=True)
        )
    return moved if any(moved) else ()


# -- torchvision's MaxViT: [N, windows, positions, C] --------------------------------------------


def _partition(block: Any, layer: nn.Module, output: Tensor) -> Reshape | None:
    if layer is block.departition_op:
        return ChannelsFirst()
    swapped = layer is not block.partition_op and layer is not block.departition_swap
    spread = block.partition_type == "grid" and swapped
    side = block.g if spread else block.p
    if output.ndim != 4 or output.shape[2] != side * side:
        return None
    return Windows(window=(side, side), grid=tuple(block.grid_size), spread=spread)


# -- MobileViTv2: [N, C, positions of a patch, patches] ------------------------------------------


def _unfolded(
    model: nn.Module, block: Any, layer: nn.Module, output: Tensor, image: Tensor
) -> Windows | None:
    """K patches of P positions, if they are all of the picture.

    timm resizes the picture to whole patches before; transformers leaves out what fills none.
    """
    norm = getattr(block, _UNFOLDING[type(block).__name__])
    resized = getattr(block, "patch_size", None)
    patch = tuple(resized or (block.patch_height, block.patch_width))
    inside = layer is norm or any(layer is module for module in block.transformer.modules())
    if not inside or output.ndim != 4 or output.shape[2] != math.prod(patch):
        return None
    known = pyramid(model, image)
    pictures = {_whole(grid, patch) for grid in known} if resized else set(known)
    grids = sorted(grid for grid in pictures if _patches(grid, patch) == output.shape[3])
    if len(grids) != 1 or _whole(grids[0], patch) != grids[0]:
        raise LayoutError(_no_picture(output.shape[3], patch, grids))
    return Windows(window=patch, grid=grids[0], channels="first")


def _no_picture(count: int, patch: Grid, grids: list[Grid]) -> str:
    made = " or of ".join(map(_by, grids))
    what = f"a picture of {made}, not all of which is in them" if grids else "no picture known here"
    spec = f"windows:window={_by(patch)},grid=HxW,channels=first"
    return (
        f"{count} patches of {_by(patch)} per image make {what}; choose the block around the layer "
        f"(see `camkit layers`), or say reshape={spec!r} if they are all of a picture of height H "
        "and width W"
    )


def _whole(grid: Grid, patch: Grid) -> Grid:
    return tuple(-(-length // side) * side for length, side in zip(grid, patch, strict=True))


def _patches(grid: Grid, patch: Grid) -> int:
    """Whole ones."""
    return math.prod(length // side for length, side in zip(grid, patch, strict=True))


def _by(sizes: Grid) -> str:
    return "x".join(map(str, sizes))
