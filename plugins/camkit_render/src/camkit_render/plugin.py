"""What this package offers. Imports neither torch nor numpy nor Pillow: listings read it."""

from __future__ import annotations

from camkit_core import Entry, hookimpl


@hookimpl
def camkit_entries() -> list[Entry]:
    """Three renderers and four writers."""
    return [*_renderers(), *_writers()]


def _renderers() -> list[Entry]:
    return [
        Entry(
            kind="renderer",
            name="overlay",
            ref="camkit_render.overlay:Overlay",
            summary="The map on the original photo; cold areas keep the photo.",
        ),
        Entry(
            kind="renderer",
            name="heatmap",
            ref="camkit_render.overlay:HeatMap",
            summary="The map alone, colored.",
        ),
        Entry(
            kind="renderer",
            name="grid",
            ref="camkit_render.grid:Grid",
            summary="Side by side: images and targets down, methods across.",
        ),
    ]


def _writers() -> list[Entry]:
    return [
        Entry(
            kind="writer",
            name="png",
            ref="camkit_render.writers:PngWriter",
            summary="The overlay, with its provenance in a text chunk.",
            suffixes=(".png",),
        ),
        Entry(
            kind="writer",
            name="npz",
            ref="camkit_render.writers:NpzWriter",
            summary="Display and raw maps, scores and provenance for NumPy.",
            suffixes=(".npz",),
        ),
        Entry(
            kind="writer",
            name="safetensors",
            ref="camkit_render.writers:SafetensorsWriter",
            summary="Display and raw maps, scores and provenance, without pickle.",
            suffixes=(".safetensors",),
        ),
        Entry(
            kind="writer",
            name="json",
            ref="camkit_render.writers:JsonWriter",
            summary="Provenance, target, scores, issues and ranges; no maps.",
            suffixes=(".json",),
        ),
    ]
