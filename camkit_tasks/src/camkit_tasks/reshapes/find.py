"""Which reshape a layer needs: patch arithmetic for tokens and windows, families for maps.

What shapes and modules say of the channels' axis is core's; here is what it takes to know more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from camkit_core import (
    ChannelsFirst,
    ChannelsLast,
    LayoutError,
    Reshape,
    ancestors_of,
    makes_features,
    output_channels,
    picture_fit,
)
from camkit_tasks.reshapes.partitions import find_windows
from camkit_tasks.reshapes.patches import Grid, Patches, patches
from camkit_tasks.reshapes.tokens import MAX_PREFIX, Tokens, by_dots, token_sum, tokens_spec

# Families whose blocks permute in plain code, so that no module inside tells the layout.
# Exact names: timm's SwinTransformerV2Cr, for one, is channel-first.
_FAMILIES: dict[str, type[ChannelsFirst | ChannelsLast]] = {
    "SwinTransformer": ChannelsLast,
    "SwinTransformerV2": ChannelsLast,
    "SwinTransformer3d": ChannelsLast,
    "ConvNeXt": ChannelsFirst,
    "MaxVit": ChannelsFirst,
}


def find_reshape(
    model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
) -> Reshape | None:
    """Reshape of tokens, of windows, and of maps of a known family; None for anything else.

    Raises:
        LayoutError: tokens that do not add up, or in more than one way; the message has the sums.
    """
    tensor = _only_tensor(output)
    if tensor is None or image.ndim < 3:
        return None
    around = ancestors_of(model, layer_name)
    windows = find_windows(model, around, layer, tensor, image)
    if windows is not None:
        return windows
    if len(tensor) != len(image):
        return None
    if tensor.ndim == 3:
        said = _said_grid(output, tensor, image)
        return said or _tokens(model, around, layer_name, layer, tensor, image)
    if tensor.ndim == image.ndim:
        return _by_family(around, layer, tensor, image)
    return None


def _only_tensor(output: Any) -> Tensor | None:
    try:
        return ChannelsFirst().to_spatial(output)
    except LayoutError:
        return None


# -- tokens ------------------------------------------------------------------------------------


def _said_grid(output: Any, tensor: Tensor, image: Tensor) -> Tokens | None:
    """The grid that a layer returns together with its tokens, as in `(tokens, (h, w))`."""
    sizes = tuple(_integers(output))
    if len(sizes) != image.ndim - 2:
        return None
    fitting = Patches((sizes,), frozenset(range(MAX_PREFIX + 1)), known=True).fits(tensor.shape[1])
    return Tokens(prefix=fitting[0][0], grid=sizes) if fitting else None


def _integers(output: Any) -> Iterator[int]:
    if isinstance(output, int) and not isinstance(output, bool) and output > 0:
        yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _integers(part)


def _tokens(
    model: nn.Module,
    around: Sequence[nn.Module],
    name: str,
    layer: nn.Module,
    output: Tensor,
    image: Tensor,
) -> Tokens | None:
    count, width = output.shape[1:]
    if _own_order(around, count):
        raise LayoutError(
            f"layer {name!r} returns tokens {list(output.shape)} in an order of the network's own, "
            "not rows and columns; choose a later layer (see `camkit layers`) or give reshape= an "
            "object or function that sorts them"
        )
    ways = list(patches(model, around, image))
    for way in ways:
        fitting = way.fits(count)
        if not fitting:
            continue
        # [N, C, T] that happens to close as well, and 1-D maps, need a module's word.
        doubtful = image.ndim == 3 or (bool(way.fits(width)) and not way.known)
        if doubtful and not makes_features(layer, width):
            return None
        if len(fitting) > 1:
            raise LayoutError(_two_readings(name, output, fitting))
        return Tokens(prefix=fitting[0][0], grid=fitting[0][1])
    if ways[0].known and makes_features(layer, width):
        raise LayoutError(_no_reading(name, output, image, ways[0]))
    return None


def _own_order(around: Sequence[nn.Module], count: int) -> bool:
    """Whether tokens are not in rows: Hiera's are when nothing is left of its schedule."""
    for module in around:
        schedule = getattr(getattr(module, "reroll", None), "schedule", None)
        if isinstance(schedule, dict):
            sorted_again = {math.prod(size) for left, size in schedule.values() if not left}
            return count not in sorted_again
    return False


def _two_readings(name: str, output: Tensor, fitting: Sequence[tuple[int, Grid]]) -> str:
    sums = " and as ".join(token_sum(output.shape[1], *reading) for reading in fitting)
    ways = " or ".join(f"reshape={tokens_spec(*reading)!r}" for reading in fitting)
    return f"layer {name!r} returns tokens {list(output.shape)}, which read as {sums}; say {ways}"


def _no_reading(name: str, output: Tensor, image: Tensor, way: Patches) -> str:
    count, grid = output.shape[1], way.grids[0]
    rest = count - math.prod(grid)
    by = "x".join(map(str, image.shape[2:]))
    sums = token_sum(count, rest, grid) if rest >= 0 else f"{count} is less than {by_dots(grid)}"
    wanted = " or ".join(token_sum(p + math.prod(grid), p, grid) for p in sorted(way.prefixes)[:2])
    return (
        f"layer {name!r} returns tokens {list(output.shape)} for an image of {by}: {sums}, but the "
        f"network's patches make {wanted}; say the grid if you know it, e.g. "
        f"reshape={tokens_spec(max(rest, 0), grid)!r}, or choose another layer"
    )


# -- maps with channels first or last ------------------------------------------------------------


def _by_family(
    around: Sequence[nn.Module], layer: nn.Module, output: Tensor, image: Tensor
) -> Reshape | None:
    """The family's layout where the shape leaves both open and the layer itself does not tell."""
    first, last = (picture_fit(p, image) for p in (output.shape[2:], output.shape[1:-1]))
    if first != last or output_channels(layer, output) is not None:
        return None
    for module in (layer, *around):
        for base in type(module).__mro__:
            if base.__name__ in _FAMILIES:
                return _of_family(_FAMILIES[base.__name__], layer)
    return None


def _of_family(found: type[ChannelsFirst | ChannelsLast], layer: nn.Module) -> Reshape | None:
    # Inside a ConvNeXt block the maps are channel-last for a while; the block permutes them back.
    inner = not list(layer.children())
    return None if found is ChannelsFirst and inner else found()
