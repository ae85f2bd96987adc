"""torchvision's classification networks: random, published, or with weights from a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import LoadedModel, ModelError, near
from camkit_tasks.loaders.weights import SUFFIXES, is_weights_file, load_into, read_weights
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.photos.transforms import from_torchvision
from camkit_tasks.torchvision_import import import_torchvision
from camkit_tasks.words import one_line

SEED = 0
"""Seed of `@none`: the same network in every run."""

_PREFIX = "torchvision:"
_RANDOM_NOTE = (
    "weights are random: the maps show what the architecture does, not what a trained network saw"
)


@dataclass(frozen=True)
class _Network:
    """A network by name, and its published weights."""

    name: str
    weights: Any  # enumeration of published weights

    def build(self, published: Any = None, **options: Any) -> nn.Module:
        """The network on the CPU, in eval mode; the global random state stays as it is."""
        models = import_torchvision("models")
        progress = sys.stderr.isatty()
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(SEED)
            model: nn.Module = models.get_model(
                self.name, weights=published, progress=progress, **options
            )
        return model.eval()


def load(spec: str) -> LoadedModel:
    """Model for `torchvision:NAME[@none | @DEFAULT | @WEIGHTS | @file]`.

    Raises:
        ModelError: unknown network or weights, a failed download, a file that does not fit.
        UnsafeFileError: a weights file that would run code.
    """
    name, at, source = spec.removeprefix(_PREFIX).partition("@")
    network = _find(name.strip())
    source = source.strip() if at else "DEFAULT"
    if source.lower() == "none":
        return _random(network, spec)
    if is_weights_file(source):
        return _from_file(network, Path(source).expanduser(), spec)
    return _published(network, source, spec)


def _find(name: str) -> _Network:
    models = import_torchvision("models")
    known = models.list_models(module=models)
    if name in known:
        return _Network(name, models.get_model_weights(name))
    if name in models.list_models():
        raise ModelError(
            f"torchvision's {name} is not a classification network; build it in your own code and "
            "pass file.py:factory"
        )
    raise ModelError(
        f"torchvision has no classification network {name!r}{near(name, known)} "
        f"({len(known)} are known, see torchvision.models.list_models())"
    )


def _random(network: _Network, spec: str) -> LoadedModel:
    quiet = {"init_weights": True} if network.name in _INCEPTIONS else {}
    model = network.build(**quiet)
    return _loaded(model, spec, "random", network.weights.DEFAULT, (_RANDOM_NOTE,))


def _published(network: _Network, source: str, spec: str) -> LoadedModel:
    names = list(network.weights.__members__)
    if source not in names:
        raise ModelError(
            f"{network.name} has no weights {source!r}{near(source, names)}; expected none, "
            f"{', '.join(names)}, or a file ending in {', '.join(SUFFIXES)}"
        )
    chosen = network.weights[source]
    try:
        model = network.build(published=chosen)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the pretrained weights {chosen} of {network.name} could not be downloaded "
            f"({one_line(error)}); pass torchvision:{network.name}@file.safetensors (or .pth) for "
            f"weights on disk, or torchvision:{network.name}@none for random ones"
        ) from error
    return _loaded(model, spec, str(chosen), chosen)


# -- weights from a file ---------------------------------------------------------------------------

_INCEPTIONS = ("googlenet", "inception_v3")


def _from_file(network: _Network, path: Path, spec: str) -> LoadedModel:
    file = read_weights(path)
    options = _options(network, file.tensors)
    model = network.build(**options)
    classes = _classes(model, file.tensors)
    if classes is not None:
        model = network.build(**options, num_classes=classes)
    load_into(model, file)
    like, note = _like(network, path, options.get("image_size"))
    notes = [note]
    if "transform_input" in options:
        notes.append("transform_input=True is assumed, as for the published weights")
    if classes is not None:
        notes.append(f"the file has {classes} classes, whose names are not known")
    return _loaded(model, spec, path.name, like, tuple(notes), named=classes is None)


def _options(network: _Network, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the builder must be told to get the network the file was saved from."""
    if network.name in _INCEPTIONS:
        auxiliary = any(name.lower().startswith("aux") for name in state)
        return {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return {}
    side = round(max(positions.shape[1] - 1, 1) ** 0.5)
    return {"image_size": side * patches.shape[-1]}


def _classes(model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Classes of the file's last layer where they differ from the model's, else None."""
    name, layer = _last_layer(model)
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != layer.weight.ndim or len(weight) == len(layer.weight):
        return None
    return len(weight)


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that returns the logits: a linear one, or a convolution in SqueezeNet."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    linear = [(name, module) for name, module in layers if isinstance(module, nn.Linear)]
    return linear[-1] if linear else layers[-1]


def _like(network: _Network, path: Path, image_size: int | None) -> tuple[Any, str]:
    """The published weights whose preprocessing and class names a file shares, and a note."""
    members = list(network.weights)
    for weights in members:
        if path.stem == Path(weights.url).stem:
            return weights, f"recognised {path.name} as the published {weights}"
    chosen = network.weights.DEFAULT
    if image_size is not None:
        fitting = [w for w in members if w.transforms().crop_size == [image_size]]
        chosen = chosen if chosen in fitting or not fitting else fitting[0]
    return chosen, f"preprocessing and class names are ASSUMED to be those of {chosen}"


def _loaded(
    model: nn.Module,
    spec: str,
    weights: str,
    published: Any,
    notes: tuple[str, ...] = (),
    *,
    named: bool = True,
) -> LoadedModel:
    """The model with preprocessing and class names of published weights."""
    preprocess = from_torchvision(published.transforms())
    size = getattr(model, "image_size", None)
    if isinstance(size, int) and preprocess.crop != (size, size):
        changed = {"resize": size, "crop": (size, size)}
        preprocess = ImagePreprocess(**{**preprocess.model_dump(), **changed})
        notes = (*notes, f"photos are resized to the {size} pixels this network needs")
    return LoadedModel(
        model=model,
        spec=spec,
        weights=weights,
        preprocess=preprocess,
        class_names=tuple(published.meta["categories"]) if named else (),
        notes=notes,
    )
