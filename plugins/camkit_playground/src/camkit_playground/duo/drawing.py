"""One Duo picture: a pure function of its seed and options.

Every random number comes from `SeedSequence(seed, spawn_key=(kind, part))`. The kind (training or
test) is part of the key, so no training picture shares its random numbers with a test picture,
whatever the seeds. The part (layout, look, sensor) keeps what is drawn in one stage out of the
others: a picture without an object, with the tag, or of another size stays the same picture.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from camkit_core import InputError
from camkit_playground.duo.classes import CLASS_NAMES, FAMILIES, class_index
from camkit_playground.duo.ground import paint_ground
from camkit_playground.duo.layout import Layout, draw_layout
from camkit_playground.duo.paint import paint_object
from camkit_playground.duo.tag import paint_tag

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = ("test", "train")
"""Two families of pictures without a common one."""

# Any two numbers would do; this one for tests puts what the documentation talks about into duo:7.
_KEYS = {"test": 121, "train": 1}

SIZES = (32, 1024)
"""Smallest and largest side, pixels."""

_LAYOUT, _LOOK, _SENSOR = range(3)

Box = tuple[int, int, int, int, int]
"""Class index, top, left, bottom, right: half-open pixel ranges."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and the truth about it."""

    image: NDArray[np.uint8]  # [H, W, 3]
    masks: NDArray[np.bool_]  # [8, H, W]: pixels of each class, none where it is absent
    labels: NDArray[np.bool_]  # [8]: which classes are there
    boxes: tuple[Box, ...]  # tight around the masks, in the order of painting
    tag: NDArray[np.bool_]  # [H, W]: pixels of the tag, none without it
    seed: int

    def photo(self) -> Image:
        """The picture as an RGB `PIL.Image.Image`."""
        from PIL import Image

        return Image.fromarray(self.image)


def scene(
    seed: int,
    *,
    size: int = 64,
    objects: int = 2,
    classes: Sequence[int | str] | None = None,
    tag: bool = False,
    kind: str = "test",
    without: Iterable[int | str] = (),
) -> Scene:
    """The scene of a seed.

    Args:
        seed: not negative.
        size: side in pixels; the layout is the same at every size.
        objects: 1 to 3 objects of different classes that do not touch.
        classes: these classes, by index or name, instead of drawn ones; `objects` is their number.
        tag: plant the tag in the corner that every layout keeps free.
        kind: `"test"` or `"train"`.
        without: classes that are left out, everything else unchanged to the last byte.

    Raises:
        InputError: an option is out of range.
    """
    seed, size = checked_seed(seed), _checked_size(size)
    wanted = _checked_classes(classes)
    layout = draw_layout(
        stream(seed, kind, _LAYOUT),
        _checked_objects(objects) if wanted is None else len(wanted),
        wanted,
    )
    left_out = frozenset(map(class_index, without))
    look = stream(seed, kind, _LOOK)
    canvas = paint_ground(look, size)
    masks = _paint_objects(look, canvas, layout, left_out)
    stuck = paint_tag(canvas, layout.corner) if tag else np.zeros((size, size), np.bool_)
    return Scene(
        image=_sense(stream(seed, kind, _SENSOR), canvas),
        masks=masks,
        labels=present(masks),
        boxes=tuple(_box(k, masks[k]) for k in layout.classes if k not in left_out),
        tag=stuck,
        seed=seed,
    )


def scenes(seeds: Iterable[int], **options: Any) -> list[Scene]:
    """`scene` for many seeds with the same options."""
    return [scene(seed, **options) for seed in seeds]


def stream(seed: int, kind: str, part: int) -> np.random.Generator:
    """The random numbers of one part of a picture.

    Raises:
        InputError: unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} of Duo pictures is unknown; expected one of {KINDS}")
    key = (_KEYS[kind], part)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _paint_objects(
    look: np.random.Generator,
    canvas: NDArray[np.float32],
    layout: Layout,
    left_out: frozenset[int],
) -> NDArray[np.bool_]:
    masks = np.zeros((len(CLASS_NAMES), *canvas.shape[:2]), np.bool_)
    for index, place in zip(layout.classes, layout.places, strict=True):
        color = FAMILIES[index // 2].color(look)
        if index not in left_out:
            masks[index] = paint_object(canvas, index, place, color)
    return masks


def _sense(rng: np.random.Generator, canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What a sensor records: noise, then eight bits. The noise does not depend on the scene."""
    sigma = np.float32(2.5 + 4 * rng.random())
    noise = sigma * rng.standard_normal(canvas.shape, np.float32)
    levels = canvas * np.float32(255) + noise + np.float32(0.5)
    return np.clip(levels, 0, 255).astype(np.uint8)


def present(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which classes `[8]` have a pixel in masks `[8, H, W]`."""
    labels: NDArray[np.bool_] = np.any(masks, axis=(1, 2))
    return labels


def _box(index: int, mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (index, int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def checked_seed(seed: int) -> int:
    """The seed as a plain integer.

    Raises:
        InputError: it is negative.
    """
    number = operator.index(seed)
    if number < 0:
        raise InputError(f"seed {number} of a Duo picture is negative; expected 0 or more")
    return number


def _checked_size(size: int) -> int:
    number = operator.index(size)
    if not SIZES[0] <= number <= SIZES[1]:
        raise InputError(f"size {number} of a Duo picture is not in {SIZES[0]}..{SIZES[1]} pixels")
    return number


def _checked_objects(objects: int) -> int:
    if objects not in (1, 2, 3):
        raise InputError(f"a Duo picture has 1, 2 or 3 objects, not {objects!r}")
    return objects


def _checked_classes(classes: Sequence[int | str] | None) -> tuple[int, ...] | None:
    if classes is None:
        return None
    found = tuple(map(class_index, classes))
    if not 1 <= len(found) <= 3 or len(set(found)) < len(found):
        raise InputError(
            f"classes {list(classes)} of a Duo picture: expected 1 to 3 different ones"
        )
    return found
