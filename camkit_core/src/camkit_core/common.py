"""Which arguments of a model belong to single images, and which to the batch as a whole.

M perturbed images need M rows of everything that comes per image, and the length of an argument
says whether it does. Where an argument for the whole batch has as many rows as there are images
(two texts that two images are compared with), the length misleads and a trial tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import CapabilityError
from camkit_core.session import Session
from camkit_core.shadow import Shadow
from camkit_core.tree import tensors

Key = int | str


def common_arguments(session: Session) -> frozenset[Key]:
    """Arguments that stay as they are when there are more rows; found out once per call.

    Raises:
        CapabilityError: the shapes of the output make no sense either way.
    """
    if "common" not in session.memo:
        doubtful = _doubtful(session)
        session.memo["common"] = _tried(session, doubtful) if doubtful else frozenset()
    found: frozenset[Key] = session.memo["common"]
    return found


def _doubtful(session: Session) -> frozenset[Key]:
    """Arguments with a row per image, if another axis of the output has that length as well."""
    inputs, images = session.inputs, len(session.inputs.image)
    axes = (length for tensor in tensors(session.done.output) for length in tensor.shape[1:])
    if images < 2 or images not in axes:
        return frozenset()
    named: list[tuple[Key, Any]] = [*enumerate(inputs.args), *inputs.kwargs.items()]
    return frozenset(key for key, value in named if key != inputs.key and _has_rows(value, images))


def _has_rows(value: Any, images: int) -> bool:
    return any(tensor.ndim and len(tensor) == images for tensor in tensors(value))


def _tried(session: Session, doubtful: frozenset[Key]) -> frozenset[Key]:
    """Run one row more than there are images, with and without more rows of the arguments."""
    if _scales(session, frozenset()):
        return frozenset()
    if _scales(session, doubtful):
        return doubtful
    named = ", ".join(map(str, sorted(doubtful, key=str)))
    raise CapabilityError(
        f"whether {named} belong to single images or to the whole batch cannot be told: the output "
        "changes its shape with the number of images either way; explain one image at a time, or "
        "fix these arguments inside the model"
    )


def _scales(session: Session, common: frozenset[Key]) -> bool:
    """Whether only the first axis of the output follows the number of rows."""
    images = len(session.inputs.image)
    owner = torch.arange(images + 1, device=session.image.device) % images
    inputs = session.inputs.usable().rows(session.image[owner], owner, common)
    session.tally.whole((images + 1) / images)
    try:
        with torch.inference_mode(False), torch.no_grad(), session.autocast():
            output = inputs.call(Shadow(session.model, []).root)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:  # arguments of unequal length may fail anywhere in somebody's model
        return False
    clean, more = tensors(session.done.output), tensors(output)
    return len(clean) == len(more) and _alike(zip(clean, more, strict=True), images)


def _alike(pairs: Iterable[tuple[Tensor, Tensor]], images: int) -> bool:
    rows = [
        (one.shape[1:], other.shape[1:])
        for one, other in pairs
        if one.ndim and other.ndim and len(one) == images and len(other) == images + 1
    ]
    return bool(rows) and all(one == other for one, other in rows)
