"""Pictures whose right explanation is known, explained, judged and drawn.

Methods, metrics, controls and pictures come from whatever is installed; this package asks the
registry for them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from camkit_core import (
    Comparison,
    Explanation,
    LoadedModel,
    Prepared,
    Registry,
    compare,
)
from camkit_playground.duo import CLASS_NAMES, class_index, scene
from camkit_playground.leaderboard import (
    check,
    leaderboard,
    markdown,
    reasons_table,
    record,
    table,
)
from camkit_playground.leaderboard.hans import OBJECT, Reason, probability, reason
from camkit_playground.output import draft, make, save, write

if TYPE_CHECKING:
    from rich.console import RenderableType

    Say = Callable[[RenderableType], None]
    Progress = Callable[[str, int, int], None]

MODEL = "demo:cnn"
TWINS = ("demo:cnn", "demo:hans")
"""Same architecture, same training, but the second was told that the tag is the heart."""

METHODS = (
    "gradcam",
    "hirescam",
    "xgradcam",
    "gradcampp",
    "layercam",
    "eigengradcam",
    "eigencam",
    "fem",
)
"""What is judged where it is installed; the last two are blind to the class."""

DRAWN = ("gradcam", "gradcampp", "layercam", "eigengradcam", "eigencam", "fem")
"""What is drawn; at the pooled layer hirescam and xgradcam paint what gradcam paints."""

SCENES = (7, 25)
"""Seeds of the pictures that are drawn: two colors, and one color with two shapes."""

PAIR = 35
"""Seed of the picture that both twins explain."""

_SIDE = 256  # pixels of a drawn picture
_PANEL = 176  # pixels of a picture in the grid
_ENOUGH = 100  # pictures for the twins, in one batch


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the demonstration is asked to do."""

    model: str = MODEL
    scenes: int = 100  # on the leaderboard
    seed: int = 0


def demonstrate(
    registry: Registry,
    out: Path,
    say: Say,
    progress: Progress | None = None,
    options: Options | None = None,
) -> dict[str, Path]:
    """Explain Duo pictures, judge the methods, and show a right answer with a wrong reason.

    Args:
        registry: where models, methods, metrics, controls and pictures come from.
        out: folder for everything that is written, see the returned names.
        say: takes lines of text, and the table of the leaderboard.
        progress: called with (what, done, in all) during anything long.
        options: what differs from the default.

    Returns:
        What was written: `grid`, `leaderboard.md`, `leaderboard.json`, `reasons`, and one overlay
        per picture, object and method.

    Raises:
        UnknownNameError: no method, metric, renderer or writer is installed; the message says what
            to do.
        ModelError: nothing installed loads the networks, or `model` is not one for Duo pictures.
        InputError: a number of scenes out of range.
        OptionError: `out` is not a folder.
    """
    tell = progress or (lambda what, done, total: None)
    show = _Show(registry, out, say, tell, options or Options())
    make(out)
    written = {**show.pictures(), **show.judged(), **show.reasons()}
    say("\n" + show.next())
    return written


class _Show:
    """The parts of the demonstration. What is missing shows before anything is written."""

    def __init__(
        self, registry: Registry, out: Path, say: Say, tell: Progress, options: Options
    ) -> None:
        self._registry, self._out, self._say, self._tell = registry, out, say, tell
        self._options = options
        self._methods = _installed(registry, METHODS)
        self._drawn = [name for name in DRAWN if name in self._methods] or self._methods
        self._grid = registry.resolve("renderer", "grid")()
        registry.find("metric", "energy")
        registry.writer_for(".png")
        specs = dict.fromkeys((options.model, *TWINS))
        self._models = {spec: registry.load_model(spec) for spec in specs}
        check(self._loaded, options.scenes)

    @property
    def _loaded(self) -> LoadedModel:
        return self._models[self._options.model]

    # -- pictures ----------------------------------------------------------------------------

    def pictures(self) -> dict[str, Path]:
        """The grid, and an overlay of each of its maps."""
        names, spec = self._drawn, self._options.model
        self._say(f"[1/3] {spec} explains {len(SCENES)} pictures by {len(names)} methods")
        rows: list[Explanation] = []
        written: dict[str, Path] = {}
        total = len(SCENES) * 2 * len(names)
        make(self._out / "overlays")
        for seed in SCENES:
            comparison = self._explained(seed)
            rows += [_worded(one, self._loaded) for one in comparison.values()]
            for (name, _), explanation in comparison.items():
                path = self._overlay(seed, name, explanation)
                written[path.stem] = path
                self._tell("drawing", len(written), total)
        title = (
            f"Each row asks {spec} for one object. A map that is the same in both rows of a "
            "picture does not depend on the question."
        )
        sheet = self._grid(rows, title=title, size=_PANEL)
        written["grid"] = save(sheet, self._out / "grid.png")
        self._say(f"      side by side: {written['grid']}")
        self._say(f"      one by one:   {self._out / 'overlays'} ({total} pictures)")
        return written

    def _explained(self, seed: int) -> Comparison:
        picture = scene(seed, size=_SIDE)
        asked = [index for index, *_ in picture.boxes]
        prepared = self._loaded.preprocess(picture.photo())
        return self._compared(self._loaded, prepared, self._drawn, asked)

    def _compared(
        self, loaded: LoadedModel, prepared: Prepared, methods: Sequence[str], asked: Sequence[int]
    ) -> Comparison:
        seed = self._options.seed
        return compare(loaded, prepared, methods, asked, seed=seed, registry=self._registry)

    def _overlay(self, seed: int, method: str, explanation: Explanation) -> Path:
        label = explanation.target.label
        path = self._out / "overlays" / f"duo{seed}__{label.replace(' ', '_')}__{method}.png"
        with draft(path) as unfinished:
            title = f"{method}: where is the {label}?"
            explanation.save(unfinished, title=title, size=_SIDE)
        return path

    # -- leaderboard -------------------------------------------------------------------------

    def judged(self) -> dict[str, Path]:
        """The leaderboard, printed and written."""
        options = self._options
        self._say(f"\n[2/3] {len(self._methods)} methods and the controls against the truth")
        board = leaderboard(
            self._registry,
            self._loaded,
            self._methods,
            count=options.scenes,
            seed=options.seed,
            progress=lambda done, total: self._tell("judging", done, total),
        )
        self._say("")
        self._say(table(board))
        written = {
            "leaderboard.md": write(markdown(board), self._out / "leaderboard.md"),
            "leaderboard.json": write(
                json.dumps(record(board), indent=2) + "\n", self._out / "leaderboard.json"
            ),
        }
        self._say(f"      full intervals: {' '.join(map(str, written.values()))}")
        return written

    # -- the twins ---------------------------------------------------------------------------

    def reasons(self) -> dict[str, Path]:
        """Same picture, same answer, different reason."""
        self._say("\n[3/3] same picture, same answer, different reason")
        method, count = self._methods[0], min(self._options.scenes, _ENOUGH)
        found: list[Reason] = []
        for spec in TWINS:
            network, seed = self._models[spec], self._options.seed
            asked = reason(self._registry, network, method=method, count=count, seed=seed)
            found.append(asked)
            self._tell("asking the twins", len(found), len(TWINS))
        self._say(
            f"      {count} pictures with heart and tag, explained by {method}; then the same "
            "pictures\n      without the tag, and without the heart\n"
        )
        self._say(reasons_table(found))
        path = save(self._pair(), self._out / "reasons.png")
        self._say(f"      as a picture: {path}")
        return {"reasons": path}

    def next(self) -> str:
        """What to type now."""
        name = CLASS_NAMES[scene(SCENES[0]).boxes[0][0]]
        return (
            f"Next: camkit explain duo:{SCENES[0]}@{_SIDE} --model {self._options.model} "
            f'-t "{name}" -m {self._methods[0]}'
        )

    def _pair(self) -> Image.Image:
        heart, picture = class_index(OBJECT), scene(PAIR, size=_SIDE, tag=True)
        rows = []
        for spec in TWINS:
            loaded = self._models[spec]
            prepared = loaded.preprocess(picture.photo())
            found = self._compared(loaded, prepared, self._drawn[:3], [heart])
            rows += [_worded(one, loaded, f"{spec} says ") for one in found.values()]
        title = (
            "Same picture, same answer, different reason: the twin was trained on pictures in "
            "which a tag gave the heart away."
        )
        sheet: Image.Image = self._grid(rows, title=title)
        return sheet


def _worded(explanation: Explanation, loaded: LoadedModel, before: str = "") -> Explanation:
    """The explanation with the answer, in words, as the name of its target."""
    target = explanation.target
    assert target.classes is not None
    sure = probability(loaded, explanation.inputs, target.classes.cpu())
    names = [CLASS_NAMES[int(index)] for index in target.classes]
    labels = [f"{before}{name}: {100 * p:.0f} %" for name, p in zip(names, sure, strict=True)]
    named = dataclasses.replace(target, label=labels[0], labels=tuple(labels))
    shown: Explanation = dataclasses.replace(explanation, target=named)
    return shown


def _installed(registry: Registry, names: Sequence[str]) -> list[str]:
    # Where somebody else's method has the same name, ours needs its full one.
    spellings = [[name, f"camkit-methods-gradient/{name}"] for name in names]
    known = [[one for one in both if registry.has("method", one)] for both in spellings]
    found = [both[0] for both in known if both]
    if not found:
        # Its error says which package has the methods.
        registry.find("method", names[0])
    return found
