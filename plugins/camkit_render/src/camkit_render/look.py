"""The words of the renderers: what a caller may choose, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from camkit_core import Explanation, OptionError, near

SCALES = ("own", "shared")
WITHIN = ("image", "box")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How explanations are drawn.

    Attributes:
        alpha: opacity of the heat map where it is strongest, in [0, 1]; 0 is the photo itself.
        flat_alpha: the same opacity everywhere in the model's view ("paper look"), instead of an
            opacity proportional to relevance, which leaves cold areas as they are on the photo.
        colormap: name of a color map of the `cmap` package, for maps without negative values.
        signed_colormap: the same for maps with negative values, spread symmetrically about 0. By
            default `colormap` if that is a diverging one, else `coolwarm` (blue - grey - red).
        scale: `"own"`: every map is divided by its own largest magnitude. `"shared"`: the same
            color is the same raw value in all maps of one method, see `camkit_render.scale`.
        within: `"image"`: the map as it is. `"box"`: a view for detections in which every box has
            the full range of colors and nothing outside is painted; the data stay as they are.
        boxes: draw the boxes of a detection, with the label if there is one box.
        outline: mark the border of the model's view where it is smaller than the photo.
        captions: say below the picture what its reader must know (empty map, 1x1 layer, ...).
        size: longest side of one picture in pixels; by default a single overlay has the photo's
            size, and a sheet of several takes at most 224 per picture.
        columns: pictures per row of a sheet; by default about as many as rows. In a grid of one
            image and one target the photo counts too, and the default is at most 7; a grid of
            several is a table with one column per method, whatever this says.
        title: text of the title strip; by default layer and scale, `""` for none.
        font: path of a TrueType font for labels the built-in Latin font cannot write.
        slices: how many slices of a volume are shown, evenly spaced along its first axis.
    """

    alpha: float = 0.5
    flat_alpha: bool = False
    colormap: str = "inferno"
    signed_colormap: str | None = None
    scale: str = "own"
    within: str = "image"
    boxes: bool = True
    outline: bool = True
    captions: bool = True
    size: int | None = None
    columns: int | None = None
    title: str | None = None
    font: str | None = None
    slices: int = 16

    def __post_init__(self) -> None:
        """Refuse values that cannot be drawn."""
        if not _is_number(self.alpha) or not 0 <= self.alpha <= 1:
            raise OptionError(
                f"alpha is the opacity of the heat map, a number from 0 to 1, got {self.alpha!r}"
            )
        if self.scale not in SCALES:
            raise OptionError(
                f"scale is 'own' or 'shared', got {self.scale!r}{near(str(self.scale), SCALES)}"
            )
        self._check_within()
        for name in ("flat_alpha", "boxes", "outline", "captions"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} is True or False, got {getattr(self, name)!r}")
        self._check_counts()

    def _check_within(self) -> None:
        if self.within not in WITHIN:
            raise OptionError(
                f"within is 'image' or 'box', got {self.within!r}{near(str(self.within), WITHIN)}"
            )
        if self.within == "box" and self.scale == "shared":
            raise OptionError(
                "within='box' gives every box a scale of its own, which scale='shared' forbids; "
                "choose one of them"
            )

    def _check_counts(self) -> None:
        for name, least in (("size", 16), ("columns", 1), ("slices", 1)):
            value = getattr(self, name)
            optional = name != "slices"
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} is a whole number of at least {least}, got {value!r}")

    @classmethod
    def read(cls, renderer: str, options: Mapping[str, Any]) -> Look:
        """The look a caller asked of `renderer`.

        Raises:
            OptionError: an unknown option, or a value that cannot be drawn.
        """
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                raise OptionError(
                    f"renderer {renderer} has no option {name!r}{near(name, names)} "
                    f"(it has {', '.join(names)})"
                )
        return cls(**options)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def listed(
    renderer: str, explanations: Explanation | Mapping[Any, Explanation] | Iterable[Explanation]
) -> Sequence[Explanation]:
    """The explanations as a list; one alone and a `Comparison` are understood too.

    Raises:
        OptionError: there is nothing to draw, or something else than explanations.
    """
    if isinstance(explanations, Explanation):
        explanations = [explanations]
    elif isinstance(explanations, Mapping):
        explanations = explanations.values()
    found = list(explanations)
    for item in found:
        if not isinstance(item, Explanation):
            raise OptionError(
                f"renderer {renderer} draws explanations, got {type(item).__name__}; pass what "
                "explain() or compare() returned"
            )
    if not any(len(item) for item in found):
        raise OptionError(
            f"renderer {renderer} got no image to draw: pass at least one explanation"
        )
    return [item for item in found if len(item)]
