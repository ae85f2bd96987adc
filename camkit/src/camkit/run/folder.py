"""The output folder: nothing half-written, nothing mixed, nothing outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from camkit.cli.errors import Usage
from camkit.cli.terminal import dumps
from camkit_core import UnsafeFileError

RUN = "run.json"
RESULTS = "results.jsonl"
FAILURES = "failures.jsonl"
_LOGS = (RESULTS, FAILURES)


class OutputFolder:
    """One run's folder. `run.json` is written last: where it is, the run is complete.

    An earlier run's files go when the first file of this one is complete, so that a command that
    turns out to be wrong leaves everything as it was.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Refuse a folder that holds a finished run, unless it may be replaced.

        Raises:
            Usage: the path is a file, or holds a finished run.
        """
        self.path = path
        self._begun = False
        self._made: list[Path] = []
        self._logs: dict[str, IO[str]] = {}
        self._waiting: list[tuple[str, str]] = []
        if path.exists() and not path.is_dir():
            raise Usage(f"--out {str(path)!r} is a file; name a folder")
        if (path / RUN).exists() and not overwrite:
            raise Usage(
                f"{str(path)!r} holds a finished run; pass --overwrite to replace it, or choose "
                "another folder with --out"
            )

    @contextmanager
    def writing(self, relative: str) -> Iterator[Path]:
        """A temporary path that becomes `relative` if the block succeeds.

        Raises:
            UnsafeFileError: `relative` leads out of the folder.
            Usage: the file system refuses.
        """
        with self._explained():
            final = self._inside(relative)
            # The suffix stays last, because it chooses the format.
            draft = final.with_name(f".draft-{os.getpid()}-{final.name}")
            try:
                yield draft
                self._begin()
                draft.replace(final)
            finally:
                draft.unlink(missing_ok=True)

    def log(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one line to a log; logs get their final name in `close`."""
        self._waiting.append((name, dumps(record)))
        if self._begun:
            self._write_waiting()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write what is missing, and the completion mark last."""
        with self._explained():
            self._inside(RUN)
            self._begin()
        self.close()
        with self.writing(RUN) as draft:
            draft.write_text(dumps(record, indent=2) + "\n", encoding="ascii")

    def close(self) -> None:
        """Give the logs their names; what was finished stays readable also after a failure."""
        with self._explained():
            while self._logs:
                name, stream = self._logs.popitem()
                stream.close()
                (self.path / f"{name}.part").replace(self.path / name)
        if not self._begun:
            for folder in reversed(self._made):
                with suppress(OSError):
                    folder.rmdir()

    def _inside(self, relative: str) -> Path:
        final = self.path / relative
        if not final.parent.resolve().is_relative_to(self.path.resolve()):
            raise UnsafeFileError(f"{relative!r} leads out of {str(self.path)!r}; refused")
        missing = [step for step in (final.parent, *final.parent.parents) if not step.exists()]
        final.parent.mkdir(parents=True, exist_ok=True)
        self._made.extend(reversed(missing))
        return final

    def _begin(self) -> None:
        if self._begun:
            return
        # First the mark: a folder whose files are being replaced is not a finished run.
        (self.path / RUN).unlink(missing_ok=True)
        for name in _LOGS:
            for log in (self.path / name, self.path / f"{name}.part"):
                self._remove_files_of(log)
                log.unlink(missing_ok=True)
        self._begun = True
        self._write_waiting()

    def _write_waiting(self) -> None:
        with self._explained():
            for name, line in self._waiting:
                if name not in self._logs:
                    self._logs[name] = (self.path / f"{name}.part").open("w", encoding="ascii")
                self._logs[name].write(line + "\n")
                self._logs[name].flush()
            self._waiting.clear()

    def _remove_files_of(self, log: Path) -> None:
        """Delete what an earlier run in this folder says it wrote, and nothing else."""
        if not log.is_file():
            return
        root = self.path.resolve()
        for line in log.read_text(encoding="ascii", errors="replace").splitlines():
            for relative in _files(line):
                old = self.path / relative
                if old.parent.resolve().is_relative_to(root):
                    with suppress(OSError):
                        old.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Usage(
                f"cannot write to {str(self.path)!r}: {error.strerror or error}; choose another "
                "folder with --out"
            ) from error


def _files(line: str) -> list[str]:
    try:
        files = json.loads(line)["files"]
        return [str(name) for name in files.values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
