"""The model of a run: loaded, on its device, identified."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

from camkit.cli.errors import Usage
from camkit_core import CamkitError, LoadedModel, ModelError, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


def pick_device(word: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        Usage: another word, or a device this machine does not have.
    """
    import torch

    count = torch.cuda.device_count()
    if word == "auto":
        return torch.device("cuda" if count else "cpu")
    name, _, number = word.partition(":")
    if word == "cpu" or (name == "cuda" and (not number or number.isdigit())):
        if name == "cuda" and int(number or 0) >= count:
            raise Usage(
                f"--device {word!r}: this machine has {count} CUDA devices; use cpu or auto"
            )
        return torch.device(word)
    raise Usage(f"--device {word!r} is not one of auto, cpu, cuda, cuda:N")


def load(registry: Registry, spec: str, device: torch.device, seed: int) -> LoadedModel:
    """The model on its device, in eval mode; random weights follow from `seed`.

    Raises:
        ModelError: the specification is not understood, or loading failed.
    """
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loaded = registry.load_model(spec)
    except CamkitError:
        raise
    # A factory is the user's code and may raise anything.
    except Exception as error:
        raise ModelError(
            f"model {spec!r} failed to load: {type(error).__name__}: {error}"
        ) from error
    return dataclasses.replace(loaded, model=loaded.model.to(device).eval())


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """What `run.json` says about the model."""
    return {
        "spec": loaded.spec,
        "class": type(loaded.model).__qualname__,
        "weights": loaded.weights,
        "sha256": fingerprint(loaded.model),
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "classes": len(loaded.class_names) or None,
        "preprocess": loaded.preprocess.describe(),
        "notes": loaded.notes,
    }


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of names, types, shapes and bytes of the state dict."""
    import torch

    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.numpy().data)
    return digest.hexdigest()


def is_random(loaded: LoadedModel) -> bool:
    """Whether the model knows nothing."""
    return loaded.weights == "random"
