"""Weight files, read without running code from them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import ModelError, UnsafeFileError, near
from camkit_tasks.words import first_few, one_line

SUFFIXES = (".safetensors", ".pth", ".pt")

_NESTED = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile

# Old DenseNet checkpoints, the published ones among them, have a dot inside module names.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")


def is_weights_file(text: str) -> bool:
    """Whether `text` names a file of a known kind, existing or not."""
    return Path(text).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class WeightsFile:
    """A state dict, named as the bare network has it."""

    path: Path
    tensors: Mapping[str, Tensor]
    versions: Mapping[str, Any]  # layout version per module, as torch writes it; often unknown
    stripped: str = ""  # what wrappers had put before every name

    def without(self, prefix: str) -> WeightsFile:
        """The same table with `prefix` taken off every name."""
        tensors = {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items()}
        return WeightsFile(self.path, tensors, {}, self.stripped + prefix)


def read_weights(path: Path) -> WeightsFile:
    """State dict of a file, without the wrappings that training scripts add.

    Raises:
        ModelError: no such file, damaged, or no table of tensors.
        UnsafeFileError: a pickle that would run code.
    """
    if not path.is_file():
        names = [file.name for file in path.parent.glob("*") if is_weights_file(file.name)]
        raise ModelError(f"weights file {path} does not exist{near(path.name, names)}")
    safe = path.suffix.lower() == ".safetensors"
    return _unwrapped(_safetensors(path) if safe else _pickled(path), path)


def load_into(model: nn.Module, file: WeightsFile) -> tuple[str, ...]:
    """Copy the file's tensors into `model`; every one must find its place.

    Returns:
        Notes: which prefix was taken off the names, if any.

    Raises:
        ModelError: names or shapes differ; the message has the first of them.
    """
    file = as_named_in(model, file)
    expected = model.state_dict()
    shapes = {
        name: f"{name} {list(tensor.shape)} instead of {list(expected[name].shape)}"
        for name, tensor in file.tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    }
    missing, unexpected = _load(model, file, without=shapes)
    problems = [
        f"{len(names)} {what}: {first_few(names)}"
        for what, names in (
            ("missing", [name for name in missing if name not in shapes]),
            ("unexpected", unexpected),
            ("of another shape", list(shapes.values())),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"weights file {file.path} does not fit {type(model).__name__}: {'; '.join(problems)}; "
            "was it saved from the same network?"
        )
    if not file.stripped:
        return ()
    return (f"{file.path.name}: the prefix {file.stripped!r} was taken off all names",)


def as_named_in(model: nn.Module, file: WeightsFile) -> WeightsFile:
    """Without the prefix of a training class (`model.`, `net.`) that all names of the file have."""
    expected = model.state_dict()
    if not expected or any(name in expected for name in file.tensors):
        return file
    first = next(iter(expected))
    found = [name.removesuffix(first) for name in file.tensors if name.endswith(f".{first}")]
    fits = len(found) == 1 and all(name.startswith(found[0]) for name in file.tensors)
    return file.without(found[0]) if fits else file


def _load(
    model: nn.Module, file: WeightsFile, without: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Names missing in the file, and names the model does not know."""
    state = OrderedDict((k, v) for k, v in file.tensors.items() if k not in without)
    # Modules rename what older layouts called differently; some insist on the version of the root.
    current = model.state_dict()._metadata  # type: ignore[attr-defined]
    state._metadata = file.versions or {"": current[""]}  # type: ignore[attr-defined]
    try:
        result = model.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"weights file {file.path} does not fit {type(model).__name__}: {one_line(error)}"
        ) from error
    return result.missing_keys, result.unexpected_keys


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"weights file {path} cannot be read ({one_line(error)}): damaged, or not safetensors"
        ) from error


def _pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # about pickle protocols, which are read or refused anyway
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"weights file {path} is refused: it is not a plain table of tensors, and loading such "
            "a pickle can run any code; save model.state_dict() with safetensors.torch.save_file, "
            "or build the model in your own code and pass file.py:factory"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"weights file {path} cannot be read ({one_line(error)}): damaged, or not a state dict"
        ) from error


def _unwrapped(loaded: Any, path: Path) -> WeightsFile:
    """The innermost table of tensors, names as the bare model has them."""
    for name in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not _is_state(loaded):
        held = type(loaded).__name__
        if isinstance(loaded, Mapping) and loaded:
            held += f" with {first_few([repr(key) for key in loaded])}"
        raise ModelError(
            f"weights file {path} holds a {held}, not a state dict (names to tensors), bare or "
            f"under {' or '.join(_NESTED)}; save model.state_dict()"
        )
    renamed = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in loaded.items()}
    file = WeightsFile(path, renamed, getattr(loaded, "_metadata", {}))
    for wrapper in _WRAPPERS * 2:
        if all(name.startswith(wrapper) for name in file.tensors):
            file = file.without(wrapper)
    return file


def _is_state(loaded: Any) -> bool:
    return (
        isinstance(loaded, Mapping)
        and bool(loaded)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())
    )
