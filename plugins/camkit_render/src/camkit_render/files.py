"""A file is there completely, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from camkit_core import UnsafeFileError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write beside `path` under a temporary name, then rename over it.

    Missing parent folders are created, an existing file is replaced in one step, and after a
    failure or an interruption the old file is as it was and nothing else is left. The file gets
    the permissions of any new file.

    Raises:
        UnsafeFileError: `path` is a folder.
        OSError: the disk is full, the folder is not writable, ...
    """
    path = Path(path)
    if path.is_dir():
        raise UnsafeFileError(f"{path} is a folder, so no file can be written there; add a name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".camkit-{secrets.token_hex(8)}.part"
    try:
        with part.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
