"""Pictures and map files of one photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from camkit.run.names import Names

if TYPE_CHECKING:
    from camkit.run.folder import OutputFolder
    from camkit.run.photos import Photo
    from camkit.run.plan import Plan
    from camkit_core import Explanation

Key = tuple[Any, int]
"""Method as given, position of the target."""


class Artist:
    """Writes what was asked for: one picture per explanation, or one grid per photo."""

    def __init__(self, plan: Plan, folder: OutputFolder) -> None:
        """Find the renderer now, so that a missing package shows before anything runs.

        Raises:
            UnknownNameError: no renderer is installed.
        """
        self._folder, self._suffixes, self._grid = folder, plan.suffixes, plan.grid
        self._names, self._grids = Names(), Names()
        options = plan.options
        look = {"alpha": options.alpha, "colormap": options.colormap, "scale": options.scale}
        self._look = {name: value for name, value in look.items() if value is not None}
        drawn = plan.grid and "png" in plan.suffixes
        self._sheet = plan.registry.resolve("renderer", "grid")() if drawn else None

    def draw(self, photo: Photo, ones: Mapping[Key, Explanation]) -> dict[Key, dict[str, str]]:
        """Files of every explanation of one photo: suffix -> path inside the folder."""
        shared = {"png": self._draw_sheet(photo, list(ones.values()))} if self._sheet else {}
        return {key: {**shared, **self._files(photo, key[0], one)} for key, one in ones.items()}

    def _draw_sheet(self, photo: Photo, ones: list[Explanation]) -> str:
        assert self._sheet is not None
        name = f"grids/{self._grids.take(photo.name, 'compare')}.png"
        picture = self._sheet(ones, **self._look)
        with self._folder.writing(name) as draft:
            picture.save(draft, format="PNG")
        return name

    def _files(self, photo: Photo, spec: str, one: Explanation) -> dict[str, str]:
        name = self._names.take(photo.name, spec, one.target.label)
        files: dict[str, str] = {}
        for suffix in self._suffixes:
            if suffix == "png" and self._grid:
                continue
            place = "overlays" if suffix == "png" else "maps"
            files[suffix] = f"{place}/{name}.{suffix}"
            with self._folder.writing(files[suffix]) as draft:
                one.save(draft, **(self._look if suffix == "png" else {}))
        return files
