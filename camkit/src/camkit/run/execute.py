"""The run itself: read, explain, draw, write, one batch after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camkit.cli.errors import FAILED_IMAGES, OK
from camkit.run import model, records
from camkit.run.draw import Artist
from camkit.run.folder import FAILURES, RESULTS, OutputFolder
from camkit.run.photos import Photo, Reader, batches, stacked
from camkit.run.plan import Plan
from camkit.run.predictions import predictions
from camkit.run.progress import Meter
from camkit.run.returned import returned
from camkit.run.summary import Summary
from camkit_core import (
    BudgetError,
    CapabilityError,
    CaptureError,
    Explainer,
    LayerError,
    LayoutError,
    OptionError,
    PluginError,
    TargetError,
    select,
)

if TYPE_CHECKING:
    from camkit_core import Comparison, LoadedModel

_NOT_THE_PHOTO = (
    BudgetError,
    CapabilityError,
    CaptureError,
    LayerError,
    LayoutError,
    OptionError,
    PluginError,
    TargetError,
)
"""Errors that would meet every photo alike."""


def execute(plan: Plan) -> int:
    """Explain the photos of a plan and return the exit code.

    Raises:
        CamkitError: nothing could be explained, or the output folder cannot be written.
    """
    options = plan.options
    folder = OutputFolder(options.out, overwrite=options.overwrite)
    loaded = model.load(plan.registry, options.model, plan.device, options.seed)
    return _Run(plan, loaded, folder).run()


@dataclass(slots=True)
class _Explained:
    """A batch that went well."""

    photos: list[Photo]
    comparison: Comparison
    milliseconds: float  # per photo


class _Run:
    def __init__(self, plan: Plan, loaded: LoadedModel, folder: OutputFolder) -> None:
        self.plan, self.talk = plan, plan.talk
        self.loaded, self.folder = loaded, folder
        self.artist = Artist(plan, folder)
        self.explainer = Explainer(loaded, plan.layers, registry=plan.registry)
        self.summary = Summary(plan.talk, plan.options.out)
        self.meter = Meter(plan.talk, len(plan.images))
        self.part = part_of(plan.options.output)
        self.methods: dict[str, dict[str, Any]] = {}
        self.images: list[dict[str, Any]] = []

    def run(self) -> int:
        started = records.now()
        try:
            with self.meter:
                for batch in batches(self._readable(), self.plan.options.batch_size):
                    for explained in self._explain(batch):
                        self._record(explained)
            self._finish(started)
        except KeyboardInterrupt:
            done, total = self.summary.photos, len(self.plan.images)
            self.talk.warn(f"{done} of {total} photos were explained before the interruption")
            raise
        finally:
            self.folder.close()
        return FAILED_IMAGES if self.summary.failures else OK

    # -- photos ------------------------------------------------------------------------------

    def _readable(self) -> Iterator[Photo]:
        reader = Reader(self.loaded)
        for path in self.plan.images:
            try:
                photo = reader.read(path)
            # Decoders and a user's preprocessing may raise anything; the other photos go on.
            except Exception as error:
                self._fail([path], error)
                continue
            yield photo

    def _explain(self, photos: list[Photo]) -> Iterable[_Explained]:
        """The batch, or what is left of it when its photos are taken one by one."""
        try:
            return [self._compare(photos)]
        except _NOT_THE_PHOTO as error:
            if not self.summary.photos:
                raise
            found: Exception = error
        # The model is the user's code; whatever one photo makes it raise, the others go on.
        except Exception as error:
            found = error
        if len(photos) > 1:
            return (done for photo in photos for done in self._explain([photo]))
        self._fail([photos[0].path], found)
        return []

    def _compare(self, photos: list[Photo]) -> _Explained:
        start = time.perf_counter()
        comparison = self.explainer.compare(
            stacked(photos, self.plan.device),
            self.plan.specs,
            [wanted.request for wanted in self.plan.targets],
            output=self.part,
            budget=self.plan.options.budget,
            batch_size=_chunk(self.plan.options.chunk),
            precision=self.plan.options.precision,
            seed=self.plan.options.seed,
            post=self.plan.options.post,
            progress=lambda done, total: self.meter.maps(done, total, len(photos)),
        )
        elapsed = 1000 * (time.perf_counter() - start) / len(photos)
        return _Explained(photos, comparison, elapsed)

    def _fail(self, paths: Sequence[Path], error: Exception) -> None:
        """Note a failed photo; with nothing else to explain its error is the answer."""
        if len(self.plan.images) == 1:
            raise error
        for path in paths:
            record = records.failure(path, error)
            self.folder.log(FAILURES, record)
            self.talk.emit(record)
            self.summary.failed(record)
            self.meter.advance()

    # -- files -------------------------------------------------------------------------------

    def _record(self, explained: _Explained) -> None:
        output = next(iter(explained.comparison.values())).output
        part = self.loaded.output if self.part is None else self.part
        explained_part, names = select(output, part), self.loaded.class_names
        said = predictions(explained_part, names, multi_label=self.loaded.multi_label)
        for place, photo in enumerate(explained.photos):
            ones = {key: one[place] for key, one in explained.comparison.items()}
            files = self.artist.draw(photo, ones)
            rows = [
                records.result(
                    photo,
                    key[0],
                    self.plan.targets[key[1]],
                    one,
                    said=said[place] if said else (),
                    files=files[key],
                    milliseconds=explained.milliseconds,
                )
                for key, one in ones.items()
            ]
            # Whatever else the model returned is said to people only.
            other = "" if said and said[place] else returned(explained_part, place, names)
            self._keep(photo, rows, other)
        for (spec, _), one in explained.comparison.items():
            self.methods.setdefault(spec, records.method(spec, one))

    def _keep(self, photo: Photo, rows: Sequence[Mapping[str, Any]], other: str) -> None:
        for row in rows:
            self.folder.log(RESULTS, row)
            self.talk.emit(row)
        self.images.append(photo.describe())
        self.summary.photo(photo.path, rows, other)
        self.meter.advance()

    def _finish(self, started: str) -> None:
        record = records.run(
            self.plan.registry,
            command=["camkit", *self.plan.argv],
            options=asdict(self.plan.options),
            model=model.describe(self.loaded),
            device=str(self.plan.device),
            methods=list(self.methods.values()),
            targets=[wanted.word for wanted in self.plan.targets],
            seed=self.plan.options.seed,
            images=self.images,
            explained=self.summary.photos,
            failed=self.summary.failures,
            started=started,
        )
        self.folder.finish(record)
        self.talk.emit(record)
        self.summary.speak(notes=self.loaded.notes, random=model.is_random(self.loaded))


def part_of(text: str | None) -> str | int | None:
    """A name or a number."""
    return int(text) if text and text.strip().lstrip("-").isdecimal() else text


def _chunk(text: str | None) -> int | str | None:
    return int(text) if text and text.strip().isdecimal() else text
