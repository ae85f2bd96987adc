"""Weights on disk: half precision safetensors beside the code, read without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from camkit_core import ModelError, near
from camkit_playground.networks.cnn import CNN
from camkit_playground.networks.vit import ViT

NAMES = ("cnn", "hans", "vit")

FOLDER = Path(__file__).parent.parent / "weights"
"""Where the shipped weights lie."""

_ARCHITECTURES: dict[str, type[nn.Module]] = {"cnn": CNN, "hans": CNN, "vit": ViT}


def build(name: str) -> nn.Module:
    """An untrained network; its weights follow from torch's global seed.

    Raises:
        ModelError: there is no such network; the message has near misses.
    """
    if name not in NAMES:
        hint = near(name, NAMES) or f"; expected {', '.join(NAMES)}"
        raise ModelError(f"there is no demo network {name!r}{hint}")
    return _ARCHITECTURES[name]()


def load(name: str, folder: Path = FOLDER) -> nn.Module:
    """The trained network: float32, eval mode, CPU; the global random state stays as it is.

    Raises:
        ModelError: there is no such network, or its file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):
        model = build(name)
    path = weights_file(name, folder)
    try:
        stored = load_file(path)
        _fill(model, stored)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the weights {path.name} of demo:{name} cannot be read ({reason}); reinstall "
            "camkit-playground, or train them: python -m camkit_playground.train"
        ) from error
    return model.eval()


def _fill(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    wanted = stored_state(model).keys()
    if stored.keys() != wanted:
        raise ValueError(f"other tensors than expected: {sorted(stored.keys() ^ wanted)[:3]}")
    counters = {k: v for k, v in model.state_dict().items() if k not in wanted}
    model.load_state_dict({**counters, **{key: value.float() for key, value in stored.items()}})


def save(model: nn.Module, name: str, folder: Path) -> Path:
    """Write the weights in half precision."""
    from safetensors.torch import save_file

    path = weights_file(name, folder)
    save_file(stored_state(model), path, {"network": name, "trained_on": "Duo"})
    path.chmod(0o644)  # safetensors makes files that only their owner can read
    return path


def weights_file(name: str, folder: Path = FOLDER) -> Path:
    """Path of the weights of a network."""
    return folder / f"demo_{name}.safetensors"


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """Floating point parameters and buffers in half precision; counters are left out."""
    return {
        key: value.detach().half().contiguous()
        for key, value in model.state_dict().items()
        if value.is_floating_point()
    }
