"""torchvision's networks for classes, segments and clips: random, published, or from a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import LoadedModel, ModelError, near
from camkit_tasks.loaders import torchvision_detection
from camkit_tasks.loaders.imagenet import ids_of
from camkit_tasks.loaders.torchvision_kinds import (
    Kind,
    known_names,
    last_layer,
    options_for,
    preprocess_of,
    random_options,
)
from camkit_tasks.loaders.weights import (
    SUFFIXES,
    as_named_in,
    is_weights_file,
    load_into,
    read_weights,
)
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.torchvision_import import import_torchvision
from camkit_tasks.words import RANDOM_NOTE, one_line

SEED = 0
"""Seed of `@none`: the same network in every run."""

_PREFIX = "torchvision:"


@dataclass(frozen=True)
class _Network:
    """A network by name, and its published weights."""

    name: str
    weights: Any  # enumeration of published weights
    kind: Kind = "classification"

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
    source = source.strip() if at else "DEFAULT"
    if name.strip() in torchvision_detection.detectors():
        return torchvision_detection.load(name.strip(), source, spec)
    network = _find(name.strip())
    if source.lower() == "none":
        return _random(network, spec)
    if is_weights_file(source):
        return _from_file(network, Path(source).expanduser(), spec)
    return _published(network, source, spec)


def _find(name: str) -> _Network:
    models, known = import_torchvision("models"), known_names()
    if name in known:
        return _Network(name, models.get_model_weights(name), known[name])
    if name in models.list_models():
        raise ModelError(
            f"torchvision's {name} is not a network for classes, segments or clips; build it in "
            "your own code and pass file.py:factory"
        )
    raise ModelError(
        f"torchvision has no network {name!r}{near(name, list(known))} "
        f"({len(known)} are known, see torchvision.models.list_models())"
    )


def _random(network: _Network, spec: str) -> LoadedModel:
    model = network.build(**random_options(network.name, network.kind))
    return _loaded(network, model, spec, "random", network.weights.DEFAULT, (RANDOM_NOTE,))


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
    return _loaded(network, model, spec, str(chosen), chosen)


# -- weights from a file ---------------------------------------------------------------------------


def _from_file(network: _Network, path: Path, spec: str) -> LoadedModel:
    file = read_weights(path)
    options = options_for(network.name, network.kind, file.tensors)
    model = network.build(**options)
    file = as_named_in(model, file)
    classes = _classes(network, model, file.tensors)
    if classes is not None:
        model = network.build(**options, num_classes=classes)
    stripped = load_into(model, file)
    like, note = _like(network, path, options.get("image_size"))
    notes = [note, *stripped]
    if "transform_input" in options:
        notes.append("transform_input=True is assumed, as for the published weights")
    if classes is not None:
        notes.append(f"the file has {classes} classes, whose names are not known")
    return _loaded(network, model, spec, path.name, like, tuple(notes), named=classes is None)


def _classes(network: _Network, model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Classes of the file's last layer where they differ from the model's, else None."""
    name, layer = last_layer(model, network.kind)
    own, weight = layer.weight, state.get(f"{name}.weight")
    assert isinstance(own, Tensor)
    if weight is None or weight.ndim != own.ndim or len(weight) == len(own):
        return None
    return len(weight)


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
    network: _Network,
    model: nn.Module,
    spec: str,
    weights: str,
    published: Any,
    notes: tuple[str, ...] = (),
    *,
    named: bool = True,
) -> LoadedModel:
    """The model with preprocessing and class names of published weights."""
    preprocess = preprocess_of(published, network.kind)
    size = getattr(model, "image_size", None)
    fixed = (size, size) if isinstance(size, int) else None
    if fixed and isinstance(preprocess, ImagePreprocess) and preprocess.crop != fixed:
        preprocess = preprocess.model_copy(update={"resize": size, "crop": fixed})
        notes = (*notes, f"photos are resized to the {size} pixels this network needs")
    names = tuple(published.meta["categories"]) if named else ()
    return LoadedModel(
        model=model,
        spec=spec,
        weights=weights,
        preprocess=preprocess,
        class_names=names,
        class_ids=ids_of(names),
        notes=notes,
    )
