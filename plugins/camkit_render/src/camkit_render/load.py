"""Reading saved explanations back, without pickle and without trust."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import unquote

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from camkit_core import UnsafeFileError
from camkit_render.record import FORMAT, VERSION
from camkit_render.writers import RAW, TAG

LARGEST = 4 * 2**30
"""Bytes an archive may unpack to, unless the caller allows more."""


class Saved(TypedDict):
    """A saved explanation."""

    maps: Tensor  # [N, *S]
    raw: dict[str, Tensor]  # layer -> [N, *S_layer]
    score: Tensor  # [N]
    provenance: dict[str, Any]
    record: dict[str, Any]  # everything the file says: target, issues, ranges, geometry, ...


def load(path: str | os.PathLike[str], *, largest: int = LARGEST) -> Saved:
    """The tensors and the record in a `.npz` or `.safetensors` file of camkit.

    Args:
        path: the file.
        largest: bytes its tensors may take; guards against archives that unpack without end.

    Raises:
        UnsafeFileError: not such a file, damaged, too large, or it would need pickle.
        FileNotFoundError: there is none.
    """
    path = Path(path)
    readers = {".npz": _npz, ".safetensors": _safetensors}
    if path.suffix.lower() not in readers:
        raise UnsafeFileError(f"{path} cannot be read back; .npz and .safetensors can")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        found, text = readers[path.suffix.lower()](path, largest)
        document = _document(text)
        return {
            "maps": found["maps"],
            "raw": {
                unquote(name.removeprefix(RAW)): value
                for name, value in found.items()
                if name.startswith(RAW)
            },
            "score": found["score"],
            "provenance": document["provenance"],
            "record": document,
        }
    except UnsafeFileError:
        raise
    except _DAMAGED as error:
        raise UnsafeFileError(
            f"{path} is not an explanation saved by camkit, or it is damaged "
            f"({type(error).__name__}: {error}); save it again"
        ) from error


_DAMAGED = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError)


def _npz(path: Path, largest: int) -> tuple[dict[str, Tensor], str]:
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(member.file_size for member in archive.infolist()), largest)
    with np.load(path, allow_pickle=False) as archive:
        text = str(archive["provenance"][()])
        names = [name for name in archive.files if name != "provenance"]
        return {name: torch.from_numpy(archive[name]) for name in names}, text


def _safetensors(path: Path, largest: int) -> tuple[dict[str, Tensor], str]:
    _check_size(path, path.stat().st_size, largest)
    with safe_open(path, framework="pt") as archive:
        text = (archive.metadata() or {})[TAG]
        return {name: archive.get_tensor(name) for name in archive.keys()}, text  # noqa: SIM118


def _check_size(path: Path, size: int, largest: int) -> None:
    if size > largest:
        raise UnsafeFileError(
            f"{path} would take {size:,} bytes of memory, more than the {largest:,} allowed; "
            "pass largest= if you trust it"
        )


def _document(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"its record is not a {FORMAT}")
    if document["format_version"] > VERSION:
        raise ValueError(
            f"format version {document['format_version']} is newer than {VERSION}; update camkit"
        )
    return document
