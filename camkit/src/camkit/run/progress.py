"""Progress on stderr: a bar for people, a line now and then for logs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from camkit.cli.terminal import Talk, stderr

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 10.0
"""Seconds between two lines where stderr is not a terminal."""


class Meter:
    """Counts photos done; within a photo, maps done."""

    def __init__(self, talk: Talk, total: int) -> None:
        """Nothing is shown before `with`."""
        self._talk, self._total = talk, total
        self._done, self._part = 0, 0.0
        self._started = self._said = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        """Start the bar, if there is a terminal."""
        console = stderr()
        if console.is_terminal and not self._talk.quiet:
            self._bar = _bar()
            self._task = self._bar.add_task("photos", total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()

    def maps(self, done: float, total: int, photos: int) -> None:
        """`done` of `total` maps of a batch of `photos` are finished; a map may be half done."""
        self._part = photos * done / total
        self._show()

    def advance(self, photos: int = 1) -> None:
        """`photos` are finished."""
        self._done += photos
        self._part = 0.0
        self._show()

    def _show(self) -> None:
        position = min(self._done + self._part, self._total)
        if self._bar:
            self._bar.update(self._task, completed=position)
        elif position < self._total and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self._talk.say(self._line(position))

    def _line(self, position: float) -> str:
        rate = position / (time.monotonic() - self._started)
        left = (self._total - position) / rate if rate else float("inf")
        share = f"{100 * position / self._total:.0f} % done"
        if self._total > 1:
            share += f", {self._done} of {self._total} photos, {rate:.2g} photos/s"
        return f"{share}, about {left:.0f} s left"


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Photos per second."""

        def render(self, task: Task) -> Text:
            """Nothing before the first measurement."""
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.2g}/s" if speed else "")

    percent = TaskProgressColumn()  # one photo may take minutes
    columns = (TextColumn("{task.description}"), BarColumn(), percent, MofNCompleteColumn(), Rate())
    return Progress(*columns, TimeRemainingColumn(), console=stderr(), transient=True)
