"""Follows docs/writing-a-method.md to the letter: `python guide.py [FOLDER]`, or from a test.

A code block without a language is commands. A Python block that begins with `# path` is written to
that file; with `# path: claims` it replaces that line of the file; any other Python block is run. A
TOML block must be in the file it names. A text block must have been printed by the command before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "writing-a-method.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+/\S+|\S+\.toml)(?:: (\w+))?\n")


class NotAsWritten(Exception):
    """The guide says something that is not so."""


@dataclass
class Reader:
    """Somebody who does what the guide says.

    Attributes:
        folder: where they are.
        run: runs a command line there and returns its exit code and what it printed.
    """

    folder: Path
    run: Callable[[str, Path], tuple[int, str]]
    printed: str = ""
    written: int = 0
    steps: list[str] = field(default_factory=list)

    def follow(self, text: str) -> None:
        """Every block, in order."""
        for language, block in blocks(text):
            getattr(self, f"do_{language or 'commands'}")(block)

    def do_commands(self, block: str) -> None:
        """One command per line."""
        for line in block.splitlines():
            self.steps.append(line)
            if line.startswith("cd "):
                self.folder = self.folder / line.removeprefix("cd ")
                self._demand(self.folder.is_dir(), f"{line}: no such folder")
                continue
            code, self.printed = self.run(line, self.folder)
            self._demand(code == 0, f"{line}: exit code {code}\n{self.printed}")

    def do_python(self, block: str) -> None:
        """Write it, put it in, or run it."""
        named = _FILE.match(block)
        if not named:
            self._script(block)
            return
        path, text = self.folder / named[1], block[named.end() :]
        if named[2]:
            self._demand(path.is_file(), f"{named[1]} does not exist yet")
            old = path.read_text("utf-8")
            new, count = re.subn(rf"^    {named[2]}: .*\n", text, old, flags=re.MULTILINE)
            self._demand(count == 1, f"{named[1]} has {count} lines of {named[2]}")
            path.write_text(new, "utf-8")
        else:
            path.write_text(text, "utf-8")
        self.written += sum(bool(line.strip()) for line in text.splitlines())
        self.steps.append(f"write {named[1]}")

    def do_toml(self, block: str) -> None:
        """It is in the file already."""
        named = _FILE.match(block)
        self._demand(named is not None, f"no file is named in {block}")
        assert named
        text = (self.folder / named[1]).read_text("utf-8")
        self._demand(block[named.end() :] in text, f"{named[1]} does not have\n{block}")

    def do_text(self, block: str) -> None:
        """It was just printed, however the lines were broken."""
        said = " ".join(self.printed.split())
        self._demand(" ".join(block.split()) in said, f"not printed: {block}\n{self.printed}")

    def _script(self, code: str) -> None:
        script = self.folder / "_snippet.py"
        script.write_text(code, "utf-8")
        code_, printed = self.run(f"python {script.name}", self.folder)
        script.unlink()
        self._demand(code_ == 0, f"{code}\n{printed}")
        self.steps.append("run a snippet")

    @staticmethod
    def _demand(holds: bool, what: str) -> None:
        if not holds:
            raise NotAsWritten(what)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and contents of every code block."""
    yield from _BLOCK.findall(text)


def shell(line: str, folder: Path) -> tuple[int, str]:
    """Run a command line with this interpreter's commands first."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": search, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def main(folder: Path) -> None:
    """Follow the guide in an empty folder and say how long it took."""
    from PIL import Image

    started = time.perf_counter()
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(folder / "photo.png")
    reader = Reader(folder, shell)
    reader.follow(GUIDE.read_text("utf-8"))
    seconds, spent = time.perf_counter() - started, os.times()
    print(
        f"the guide works: {len(reader.steps)} steps, {reader.written} lines to write, "
        f"{seconds:.0f} s, {spent.children_user + spent.children_system:.0f} s of processor time"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
