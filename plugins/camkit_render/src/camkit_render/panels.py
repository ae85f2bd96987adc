"""One picture of one image: overlay, heat map, or what lies under them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from camkit_core import Explanation, OptionError
from camkit_render.boxes import draw_boxes
from camkit_render.colors import Mask, Pixels, colors_of, paint
from camkit_render.look import Look
from camkit_render.scale import Field
from camkit_render.scenes import Scene, map_scene, photo_scene
from camkit_render.signals import band_scene, signal_scene
from camkit_render.volumes import slices_scene, volume_scene

_FAINT = 0.7  # opacity of the outline relative to the heat map's


def overlay_panel(
    explanation: Explanation, row: int, field: Field, look: Look, longest: int | None
) -> Image.Image:
    """The map over its picture."""
    scene = _scene(explanation, row, look, longest)
    values, inside = scene.lay(field.values)
    colors = colors_of(look, field.signed)
    pixels = paint(scene.picture, values, inside, colors, alpha=look.alpha, flat=look.flat_alpha)
    if look.outline and field.values.ndim == 2:
        outline(pixels, inside, look.alpha)
    if look.boxes and look.alpha and scene.corner:
        pixels = draw_boxes(pixels, explanation, row, scene.corner, look)
    return Image.fromarray(pixels)


def heatmap_panel(field: Field, look: Look, longest: int | None) -> Image.Image:
    """The map alone, fully opaque."""
    scene = _bare(field, look, longest)
    values, inside = scene.lay(field.values)
    colors = colors_of(look, field.signed)
    return Image.fromarray(paint(scene.picture, values, inside, colors, alpha=1.0, flat=True))


def input_panel(explanation: Explanation, row: int, look: Look, longest: int | None) -> Image.Image:
    """What the model was shown, without a map."""
    return Image.fromarray(_scene(explanation, row, look, longest).picture)


def _scene(explanation: Explanation, row: int, look: Look, longest: int | None) -> Scene:
    axes = explanation.maps.ndim - 1
    if axes == 1:
        return signal_scene(explanation, row, longest)
    if axes == 3:
        return volume_scene(explanation, row, look.slices, longest)
    _need_known(axes)
    return photo_scene(explanation, row, longest)


def _bare(field: Field, look: Look, longest: int | None) -> Scene:
    axes = field.values.ndim
    if axes == 1:
        return band_scene(field.values, longest)
    if axes == 3:
        return slices_scene(field.values, look.slices, longest)
    _need_known(axes)
    return map_scene(field.values, longest)


def _need_known(axes: int) -> None:
    if axes != 2:
        raise OptionError(
            f"maps with {axes} spatial axes cannot be drawn (1, 2 or 3 can); save them as .npz or "
            ".safetensors, or select a slice first"
        )


def outline(pixels: Pixels, inside: Mask, alpha: float) -> None:
    """Mark, in place, the border of the model's view: faint dashes right outside it.

    Only sides that lie inside the photo are marked. The marks belong to the heat map: they fade
    with its opacity, and no pixel of the model's view is touched.
    """
    height, width = inside.shape
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows) or inside.all():
        return
    thick = max(1, round(max(height, width) / 500))
    outer = np.zeros_like(inside)
    outer[
        max(0, rows[0] - thick) : rows[-1] + 1 + thick,
        max(0, columns[0] - thick) : columns[-1] + 1 + thick,
    ] = True
    ring = outer & ~inside
    down, across = np.nonzero(ring)
    light = (down + across) // (4 * thick) % 2 == 0
    ink = np.where(light[:, None], 255, 0)
    below = pixels[ring].astype(np.float32)
    pixels[ring] = np.rint(below + _FAINT * alpha * (ink - below)).astype(np.uint8)
