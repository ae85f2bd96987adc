"""How a network cuts its image: the grids its tokens can form, and the tokens put before them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from camkit_tasks.reshapes.tokens import MAX_PREFIX

Grid = tuple[int, ...]

_EXTRA = (
    *("cls_token", "class_token", "class_embedding", "dist_token", "distillation_token"),
    *("reg_token", "register_tokens", "storage_tokens"),
)
_HALVINGS = 5


@dataclass(frozen=True)
class Patches:
    """One way to cut, and which numbers of prefix tokens go with it."""

    grids: tuple[Grid, ...]
    prefixes: frozenset[int]
    known: bool  # declared by the network, not guessed from a convolution

    def fits(self, count: int) -> list[tuple[int, Grid]]:
        """Prefix and grid of every reading of `count` tokens."""
        rests = ((count - math.prod(grid), grid) for grid in self.grids)
        return [(rest, grid) for rest, grid in rests if rest in self.prefixes]


def patches(model: nn.Module, around: Sequence[nn.Module], image: Tensor) -> Iterator[Patches]:
    """Ways to cut, the most trustworthy first: declared, seen in a convolution, halved again."""
    size = image.shape[2:]
    found = next((one for one in (_declared(m, size) for m in around) if one), None)
    if found is None:
        cut = _cutting_convolution(model, image)
        if cut is not None:
            grid = tuple(length // side for length, side in zip(size, cut, strict=True))
            found = Patches((grid,), frozenset(range(MAX_PREFIX + 1)), known=False)
    if found is not None:
        yield found
    yield Patches(tuple(pyramid(model, image)), extra_tokens(model), known=False)


def pyramid(model: nn.Module, image: Tensor) -> list[Grid]:
    """Grids behind each strided convolution, and halved again, as networks with stages do."""
    size, found = image.shape[2:], dict[Grid, None]()
    for stride in _strides(model, image):
        for halvings in range(_HALVINGS):
            for axes in {2, len(size)}:  # a video is often halved in space only
                steps = [1] * (len(size) - axes) + [2**halvings] * min(axes, len(size))
                whole = [s * step for s, step in zip(stride, steps[-len(size) :], strict=True)]
                found.update(dict.fromkeys(_divided(size, whole)))
    return list(found)


def extra_tokens(model: nn.Module) -> frozenset[int]:
    """Numbers of tokens that the class, distillation and register tokens of a model can add."""
    counts = [
        parameter.shape[1] if parameter.ndim == 3 else 1
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in _EXTRA
    ]
    sums = {
        sum(some) for r in range(len(counts) + 1) for some in itertools.combinations(counts[:6], r)
    }
    return frozenset(sums)


def _divided(size: Sequence[int], stride: Sequence[int]) -> Iterable[Grid]:
    """Rounded down, as unpadded cuts are, and up."""
    pairs = list(zip(size, stride, strict=True))
    if any(step > length for length, step in pairs):
        return []
    down = tuple(length // step for length, step in pairs)
    return [down, tuple(math.ceil(length / step) for length, step in pairs)]


def _strides(model: nn.Module, image: Tensor) -> list[tuple[int, ...]]:
    """Products of the strides of convolutions, from the first one on the image."""
    axes, total = image.ndim - 2, (1,) * (image.ndim - 2)
    found: list[tuple[int, ...]] = []
    for module in model.modules():
        if not isinstance(module, nn.modules.conv._ConvNd) or len(module.stride) != axes:
            continue
        if not found and module.in_channels != image.shape[1]:
            continue
        total = tuple(a * b for a, b in zip(total, module.stride, strict=True))
        if any(t > length for t, length in zip(total, image.shape[2:], strict=True)):
            break
        if max(total) > 1 and total not in found:
            found.append(total)
    return found


def _declared(module: nn.Module, size: Sequence[int]) -> Patches | None:
    """Patch size of a torchvision vision transformer, or of one built like timm's."""
    if hasattr(module, "class_token"):
        side = _per_axis(getattr(module, "patch_size", None), len(size))
        return None if side is None else Patches((_whole(size, side),), frozenset({0, 1}), True)
    embed = getattr(module, "patch_embed", None)
    side = _per_axis(getattr(embed, "patch_size", None), len(size))
    if side is None:
        return None
    prefix = getattr(module, "num_prefix_tokens", None)
    prefixes = {0, prefix} if isinstance(prefix, int) else range(MAX_PREFIX + 1)
    padded = bool(getattr(embed, "dynamic_img_pad", False))
    return Patches((_whole(size, side, padded),), frozenset(prefixes), known=True)


def _whole(size: Sequence[int], side: Sequence[int], padded: bool = False) -> Grid:
    pairs = zip(size, side, strict=True)
    return tuple(math.ceil(a / b) if padded else a // b for a, b in pairs)


def _cutting_convolution(model: nn.Module, image: Tensor) -> tuple[int, ...] | None:
    """Kernel of the first convolution on the image, if it cuts without overlap."""
    axes = image.ndim - 2
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd) and module.in_channels == image.shape[1]:
            kernel, stride = tuple(module.kernel_size), tuple(module.stride)
            fits = kernel == stride and len(kernel) == axes and max(kernel) > 1
            return kernel if fits else None
    return None


def _per_axis(patch: Any, axes: int) -> tuple[int, ...] | None:
    if isinstance(patch, int) and patch > 0:
        return (patch,) * axes
    if isinstance(patch, Sequence) and len(patch) == axes and all(p > 0 for p in patch):
        return tuple(patch)
    return None
