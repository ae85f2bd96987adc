"""What `hf:NAME_OR_FOLDER[#TASK][@none | @file]` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from camkit_core import ModelError, near
from camkit_tasks.loaders.hub import reachable
from camkit_tasks.loaders.weights import is_weights_file

PREFIX = "hf:"

TASKS = {
    "image-text": "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING",
    "classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "segmentation": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
    "detection": "MODEL_FOR_OBJECT_DETECTION_MAPPING",
    "features": "MODEL_MAPPING",
}
"""What a network of one family can be built for, in the order in which they are tried."""


@dataclass(frozen=True)
class Request:
    """What a specification asks for."""

    spec: str
    name: str  # folder, name of published weights, or family
    task: str  # one of TASKS, or empty
    source: str  # "none", a weights file, or empty: the weights that go with the name

    @property
    def folder(self) -> Path | None:
        """The folder that `name` is, if it is one."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def home(self) -> str | Path:
        """Where files are looked for."""
        return self.folder or self.name

    @cached_property
    def local(self) -> bool:
        """Whether only files on disk may be read: it is a folder, or there is no network."""
        return self.folder is not None or not reachable()


def parse(spec: str) -> Request:
    """Take a specification apart.

    Raises:
        ModelError: an unknown task.
    """
    rest = spec.removeprefix(PREFIX).strip()
    head, at, source = (part.strip() for part in rest.rpartition("@"))
    if not at or not (source.lower() == "none" or is_weights_file(source)):
        head, source = rest, ""
    name, hash_, task = (part.strip() for part in head.rpartition("#"))
    if not hash_:
        return Request(spec, head, "", source)
    if task not in TASKS:
        raise ModelError(f"model {spec!r}: no task {task!r}{near(task, TASKS)}; {known_tasks()}")
    return Request(spec, name, task, source)


def known_tasks() -> str:
    """The tasks, for error texts."""
    return f"tasks are {', '.join(TASKS)}"
