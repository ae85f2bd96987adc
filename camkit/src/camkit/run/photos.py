"""From paths to batches the model takes, with the damaged ones set aside."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camkit.photo import open_photo
from camkit.run.names import Names
from camkit_core import Prepared

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from camkit_core import LoadedModel


@dataclass(frozen=True, slots=True)
class Photo:
    """One image of the run, ready for the model."""

    path: Path
    name: str  # unique in the run, safe as a file name
    sha256: str  # of the file, or of the pixels of a picture that was made
    prepared: Prepared

    def describe(self) -> dict[str, Any]:
        """What `run.json` says about it."""
        geometry = dataclasses.asdict(self.prepared.pictures[0].geometry)
        return {
            "path": str(self.path),
            "name": self.name,
            "sha256": self.sha256,
            "geometry": geometry,
        }


class Reader:
    """Opens photos and prepares them for one model."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Every photo gets a name of its own."""
        self._preprocess = loaded.preprocess
        self._names = Names()

    def read(self, path: Path) -> Photo:
        """One photo.

        Raises:
            InputError: it cannot be opened.
            UnsafeFileError: it is too large.
        """
        picture = open_photo(path)
        return Photo(
            path, self._names.take(path.stem), _digest(path, picture), self._preprocess(picture)
        )


def _digest(path: Path, picture: Image.Image) -> str:
    if not path.exists():
        return hashlib.sha256(picture.tobytes()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def batches(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    """Neighbors of equal input shape, at most `size` together."""
    batch: list[Photo] = []
    for photo in photos:
        if batch and (len(batch) == size or _shape(photo) != _shape(batch[0])):
            yield batch
            batch = []
        batch.append(photo)
    if batch:
        yield batch


def stacked(photos: list[Photo], device: torch.device) -> Prepared:
    """One batch on the model's device."""
    import torch

    inputs = torch.cat([photo.prepared.inputs for photo in photos]).to(device)
    return Prepared(inputs, tuple(photo.prepared.pictures[0] for photo in photos))


def _shape(photo: Photo) -> torch.Size:
    return photo.prepared.inputs.shape[1:]
