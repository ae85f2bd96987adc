"""What is written about each explanation, each failure and the whole run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from camkit.run.versions import camkit_versions, library_versions

if TYPE_CHECKING:
    from camkit.run.photos import Photo
    from camkit.run.request import Wanted
    from camkit_core import Explanation, Registry

SCHEMA_VERSION = 1


def result(
    photo: Photo,
    spec: str,
    wanted: Wanted,
    one: Explanation,
    *,
    said: Sequence[Mapping[str, Any]],
    files: Mapping[str, str],
    milliseconds: float,
) -> dict[str, Any]:
    """One row: one image, one method, one target."""
    return {
        "type": "result",
        "image": str(photo.path),
        "name": photo.name,
        "sha256": photo.sha256,
        "method": spec,
        "target": wanted.word,
        "label": one.target.label,
        "class": None if one.target.classes is None else int(one.target.classes[0]),
        "layers": list(one.raw),
        "score": float(one.score[0]),
        "raw": {
            layer: {"shape": list(raw.shape[1:]), "min": float(raw.min()), "max": float(raw.max())}
            for layer, raw in one.raw.items()
        },
        "predictions": list(said),
        "files": dict(files),
        "ms": round(milliseconds, 2),
        "notes": list(one.provenance.notes),
        "issues": [
            {"code": issue.code, "layer": issue.layer, "message": issue.message}
            for issue in one.issues
        ],
    }


def failure(path: object, error: Exception) -> dict[str, Any]:
    """One row: an image that could not be explained, and why."""
    message = " ".join(str(error).split())
    return {
        "type": "failure",
        "image": str(path),
        "error": type(error).__name__,
        "message": message,
    }


def method(spec: str, one: Explanation) -> dict[str, Any]:
    """How a method ran: everything its provenance says that is the same for all images."""
    kept = ("method", "parameters", "package", "version", "layers", "reshape", "dtype", "post")
    provenance = one.provenance.as_dict()
    return {"spec": spec, **{name: provenance[name] for name in kept}}


def run(registry: Registry, **facts: Any) -> dict[str, Any]:
    """`run.json`."""
    return {
        "type": "run",
        "schema_version": SCHEMA_VERSION,
        **facts,
        "camkit": camkit_versions(registry),
        "libraries": library_versions(),
        "python": platform.python_version(),
        "finished": now(),
    }


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
