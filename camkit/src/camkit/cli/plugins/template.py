"""The example plugin, packed into this package, with another name."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from camkit.cli.plugins.names import Name

_FILE = re.compile(r"^=== (.+)\n", re.MULTILINE)


def files_for(name: Name) -> dict[str, str]:
    """Relative path -> text of a new plugin."""
    return {_renamed(path, name): _renamed(text, name) for path, text in unpacked().items()}


def unpacked() -> dict[str, str]:
    """The files of `plugins/camkit_example` in camkit's own repository."""
    text = (resources.files(__package__) / "template.txt").read_text("utf-8")
    _, *parts = _FILE.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def write(files: dict[str, str], folder: Path) -> None:
    """All files, or nothing.

    Raises:
        FileExistsError: somebody made the folder meanwhile.
    """
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, "utf-8", newline="\n")
        place.chmod(0o777 & ~_umask())
        if folder.exists():
            raise FileExistsError(folder)
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _renamed(text: str, name: Name) -> str:
    for old, new in (
        ("camkit-example", name.distribution),
        ("camkit_example", name.package),
        ("Example", name.title),
        ("example", name.word),
    ):
        text = text.replace(old, new)
    return text
