"""Rows in chunks: how many at a time, what is done when memory runs out, what is told meanwhile."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from camkit_core.errors import OptionError
from camkit_core.meter import Memory
from camkit_core.owners import Owners
from camkit_core.protocols import Rows
from camkit_core.remember import recall, remember
from camkit_core.rerun import key
from camkit_core.session import Session
from camkit_core.tail import out_of_memory

FIRST = 8
"""Rows of the first chunk, where nothing is known yet."""
LARGEST = 1024
# Bytes of the rows of one chunk; what is computed from them is many times as much. A GPU says when
# it is full, and the chunk is halved; a CPU's process is killed.
_GPU_BYTES, _CPU_TAIL_BYTES, _CPU_BYTES = 2**28, 2**27, 2**25
_BETTER = 0.94  # a larger chunk must save this much to be worth its memory
_SEEN = 0.9  # of a limit: operators take memory of their own, which no tensor shows
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, slots=True)
class Job:
    """Rows to score.

    Attributes:
        kind: what facts about chunk sizes are remembered under.
        rows: the rows.
        run: `(rows, owners) -> scores [m]`.
        like: clean rows, for their size.
        share: work of one row, in forwards of one image.
        layer: where the rows belong.
    """

    kind: str
    rows: Rows
    run: Callable[[Tensor, Owners], Tensor]
    like: Tensor
    share: float = 1.0
    layer: str = ""


def score_rows(session: Session, job: Job) -> Tensor:
    """Scores `[M]`, chunk by chunk; nothing lives longer than its chunk but the scores."""
    return _Chunks(session, job).run()


def memory_limit(text: str) -> int:
    """Bytes of `"512MB"`, `"2 GiB"` and the like.

    Raises:
        OptionError: it does not read as an amount of memory.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b)", text.strip(), re.IGNORECASE)
    amount = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if amount < 1:
        raise OptionError(
            f"batch_size={text!r} must be a number of rows or an amount of memory such as '512MB'"
        )
    return amount


class _Chunks:
    """One pass over the rows; a chunk that fails for want of memory is halved and repeated."""

    def __init__(self, session: Session, job: Job) -> None:
        self._session, self._job = session, job
        self._owner = job.rows.owner.to("cpu")
        self._images = len(session.inputs.image)
        self._sizes = _sizes(session, job, self._measured)

    def run(self) -> Tensor:
        found: list[Tensor] = []
        start, count = 0, len(self._job.rows)
        while start < count:
            size = min(self._sizes.next(), count - start)
            scores = self._attempt(start, start + size)
            if scores is None:
                continue
            found.append(scores)
            start += size
            if self._session.progress:
                self._session.progress(start / count)
        self._sizes.finish()
        return torch.cat(found)

    def _attempt(self, start: int, stop: int) -> Tensor | None:
        before = time.perf_counter()
        try:
            scores = self._scores(start, stop)
        except KeyboardInterrupt as error:
            error.add_note(self._where(start))
            raise
        except Exception as error:
            if not out_of_memory(error) or stop - start == 1:
                error.add_note(self._where(start))
                raise
            self._sizes.halve(stop - start)
            self._session.note(
                f"memory ran out with {stop - start} rows at a time; went on with half of them"
            )
        else:
            self._sizes.took(stop - start, time.perf_counter() - before)
            return scores
        # Only here are the frames of the failed run gone, and with them its tensors.
        gc.collect()
        torch.cuda.empty_cache()
        return None

    def _scores(self, start: int, stop: int, *, mixed: bool = False) -> Tensor:
        part, image = slice(start, stop), self._session.image
        index = self._owner[part]
        owners = Owners(index, self._images, None) if mixed else Owners.of(index, self._images)
        owners = owners.to(image.device)
        with torch.inference_mode(False), torch.no_grad():
            scores = self._job.run(self._job.rows[part], owners)
        if image.device.type == "cuda" and self._sizes.timed:
            torch.cuda.synchronize(image.device)
        return scores

    def _measured(self, rows: int) -> int:
        """Peak bytes of a run of the first rows, as if they belonged to several images."""
        with Memory() as memory:
            self._scores(0, rows, mixed=self._images > 1)
        return int(memory.peak)

    def _where(self, start: int) -> str:
        job = self._job
        where = f" at {job.layer}" if job.layer else ""
        return f"camkit: {start:,} of {len(job.rows):,} rows{where} were scored before this"


class Sizes:
    """A fixed number of rows at a time."""

    timed = False
    """Whether the seconds of the next chunk matter: on a GPU they are waited for."""

    def __init__(self, size: int) -> None:
        """Start with `size`."""
        self.size = max(1, size)

    def next(self) -> int:
        """Rows of the next chunk."""
        return self.size

    def took(self, rows: int, seconds: float) -> None:
        """A chunk was scored."""

    def halve(self, rows: int) -> None:
        """A chunk of so many rows did not fit."""
        self.size = max(1, rows // 2)

    def finish(self) -> None:
        """All rows are scored."""


class Growing(Sizes):
    """Twice as many rows as long as that makes a row cheaper."""

    def __init__(self, first: int, largest: int, keep: Callable[[int], None]) -> None:
        """Begin with `first`, end at `largest` at most, and `keep` the best for another time."""
        super().__init__(min(first, largest))
        self._largest, self._keep = largest, keep
        self._seconds: dict[int, float] = {}
        self.timed = True

    def took(self, rows: int, seconds: float) -> None:
        """Compare with what a row took so far."""
        if not self.timed or rows != self.size:
            return
        known = self._seconds.get(rows)
        self._seconds[rows] = min(seconds / rows, known or torch.inf)
        best = self._best()
        # The very first run pays for what the others find ready, and one disappointment may be
        # an accident of a busy machine.
        if known is None and (len(self._seconds) == 1 or best != rows):
            return
        if rows >= 4 * best or 2 * rows > self._largest:
            self.size, self.timed = best, False
        else:
            self.size = 2 * rows

    def halve(self, rows: int) -> None:
        """Not larger than half of what did not fit, from now on."""
        super().halve(rows)
        self._largest, self.timed = self.size, False

    def finish(self) -> None:
        """Remember the best size, if several were tried."""
        if len(self._seconds) > 1:
            self._keep(min(self._best(), self._largest))

    def _best(self) -> int:
        sizes = sorted(self._seconds)
        best = sizes[0]
        for size in sizes[1:]:
            if self._seconds[size] < _BETTER * self._seconds[best]:
                best = size
        return best


def _sizes(session: Session, job: Job, measured: Callable[[int], int]) -> Sizes:
    wanted = session.batch_size
    if isinstance(wanted, int):
        return Sizes(wanted)
    if isinstance(wanted, str):
        limit = int(_SEEN * memory_limit(wanted)) - session.held
        return Sizes(_within(limit, len(job.rows), measured))
    place = key(session, f"rows of {job.kind}")
    known = recall(session.model, place)
    if known is not None:
        return Sizes(known)
    row = job.like[0].numel() * job.like.element_size()
    if session.image.device.type != "cpu":
        most = _GPU_BYTES
    else:
        most = _CPU_TAIL_BYTES if job.layer else _CPU_BYTES
    largest = min(LARGEST, max(1, most // max(1, row)))
    return Growing(FIRST, largest, lambda size: remember(session.model, place, size))


def _within(limit: int, count: int, measured: Callable[[int], int]) -> int:
    """Rows that fit into an amount of memory, from the peaks of one row and of two."""
    one = measured(1)
    if count == 1 or one > limit:
        return 1
    each = max(1, measured(2) - one)
    return max(1, min(count, 1 + (limit - one) // each))
