"""timm's networks by name: random, published, or with weights from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import LoadedModel, ModelError, near
from camkit_tasks.loaders.hub import cached_only, reachable
from camkit_tasks.loaders.imagenet import described
from camkit_tasks.loaders.weights import (
    SUFFIXES,
    as_named_in,
    is_weights_file,
    load_into,
    read_weights,
)
from camkit_tasks.photos.assume import timm_preprocess
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.photos.transforms import prove
from camkit_tasks.words import RANDOM_NOTE, one_line

SEED = 0
"""Seed of `@none`: the same network in every run."""

_PREFIX = "timm:"


@dataclass(frozen=True)
class _Network:
    """A network by name."""

    timm: ModuleType
    name: str  # may end in the tag of published weights, as timm writes it: resnet18.a1_in1k

    def build(self, *, pretrained: bool = False, **options: Any) -> nn.Module:
        """The network on the CPU, in eval mode; the global random state stays as it is."""
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(SEED)
            model: nn.Module = self.timm.create_model(self.name, pretrained=pretrained, **options)
        return model.eval()


def load(spec: str) -> LoadedModel:
    """Model for `timm:NAME[@none | @TAG | @file]`; without `@`, timm's default weights.

    Raises:
        ModelError: timm is missing, unknown network or weights, a failed download, a file that
            does not fit.
        UnsafeFileError: a weights file that would run code.
    """
    name, at, source = (part.strip() for part in spec.removeprefix(_PREFIX).partition("@"))
    network = _find(name)
    if at and source.lower() == "none":
        return _loaded(network.build(), spec, "random", (RANDOM_NOTE,))
    if is_weights_file(source):
        return _from_file(network, Path(source).expanduser(), spec)
    return _published(network, source if at else None, spec)


def _find(name: str) -> _Network:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModelError(
            f"timm:{name} needs the package timm ({one_line(error)}); install it with: "
            "pip install timm"
        ) from error
    if not timm.is_model(name.partition(".")[0]):
        known = timm.list_models()
        raise ModelError(
            f"timm has no network {name!r}{near(name, known)} ({len(known)} are known, see "
            "timm.list_models())"
        )
    return _Network(timm, name)


def _published(network: _Network, tag: str | None, spec: str) -> LoadedModel:
    bare, _, own = network.name.partition(".")
    tags = [name.partition(".")[2] for name in network.timm.list_pretrained(f"{bare}.*")]
    wanted = own if tag is None else tag
    if not tags or (tag is not None and wanted not in tags):
        known = ", ".join(filter(None, tags)) or "none published"
        raise ModelError(
            f"{bare} has no weights {wanted!r}{near(wanted, tags)}; expected none, one of timm's "
            f"tags ({known}), or a file ending in {', '.join(SUFFIXES)}"
        )
    chosen = _Network(network.timm, f"{bare}.{wanted}" if wanted else bare)
    try:
        with cached_only(not reachable()):
            model = chosen.build(pretrained=True)
    except Exception as error:  # timm's download may fail in the way of three libraries
        raise ModelError(
            f"the pretrained weights of timm's {chosen.name} could not be loaded "
            f"({one_line(error)}); pass timm:{bare}@file.safetensors (or .pth) for weights on "
            f"disk, or timm:{bare}@none for random ones"
        ) from error
    return _loaded(model, spec, _full_name(model, chosen.name))


def _full_name(model: nn.Module, name: str) -> str:
    config = _config(model)
    parts = config.get("architecture") or name.partition(".")[0], config.get("tag")
    return ".".join(filter(None, parts))


# -- weights from a file ---------------------------------------------------------------------------


def _from_file(network: _Network, path: Path, spec: str) -> LoadedModel:
    model = network.build()
    file = as_named_in(model, read_weights(path))
    options: dict[str, Any] = {**_classes(model, file.tensors), **_size(model, file.tensors)}
    if options:
        model = network.build(**options)
    notes = [
        f"preprocessing and class names are ASSUMED to be those of timm's {network.name}",
        *load_into(model, file),
    ]
    if "num_classes" in options:
        notes.append(f"the file has {options['num_classes']} classes, whose names are not known")
    return _loaded(model, spec, path.name, tuple(notes), size=options.get("img_size"))


def _classes(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """The file's number of classes where it is not the model's."""
    named = _config(model).get("classifier") or ()
    first = named if isinstance(named, str) else next(iter(named), "")
    weight, own = state.get(f"{first}.weight"), model.state_dict().get(f"{first}.weight")
    if weight is None or own is None or len(weight) == len(own):
        return {}
    return {"num_classes": len(weight)}


def _size(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """The image size the file's position embeddings were made for, where it is not the model's."""
    positions, own = state.get("pos_embed"), model.state_dict().get("pos_embed")
    embed = getattr(model, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    if positions is None or own is None or positions.shape == own.shape or not (grid and patch):
        return {}
    prefix = own.shape[1] - math.prod(grid)
    return {"img_size": math.isqrt(max(positions.shape[1] - prefix, 1)) * patch[0]}


# -- what comes with the network -------------------------------------------------------------------


def _loaded(
    model: nn.Module,
    spec: str,
    weights: str,
    notes: tuple[str, ...] = (),
    *,
    size: int | None = None,
) -> LoadedModel:
    preprocess, more = _preprocess(model, size)
    names, ids = _names(model)
    return LoadedModel(
        model=model,
        spec=spec,
        weights=weights,
        preprocess=preprocess,
        class_names=names,
        class_ids=ids,
        output=None if getattr(model, "num_classes", None) != 0 else as_embedding,
        notes=(*notes, *more),
    )


def as_embedding(output: Any) -> Any:
    """Features of a network without a head, under a name that says so."""
    return {"embeddings": output}


def _preprocess(model: nn.Module, size: int | None) -> tuple[ImagePreprocess, tuple[str, ...]]:
    """The evaluation transform; where its geometry is not known, the whole photo squeezed."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model, args={"img_size": size} if size else None)
    try:
        preprocess = timm_preprocess(config)
    except ModelError:
        return _squeezed(config)
    prove(preprocess, create_transform(**config))
    return preprocess, ()


def _squeezed(config: Mapping[str, Any]) -> tuple[ImagePreprocess, tuple[str, ...]]:
    preprocess = ImagePreprocess(
        resize=tuple(config["input_size"][1:]),
        crop=None,
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    height, width = config["input_size"][1:]
    note = (
        f"preprocessing: photos are resized to {height}x{width} without regard to their aspect "
        f"ratio; timm's own crop ({config['crop_mode']}, {config['crop_pct']}) is not supported"
    )
    return preprocess, (note,)


def _names(model: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names and ids; only for a head as published."""
    classes, config = getattr(model, "num_classes", 0), _config(model)
    if not classes or classes != config.get("num_classes"):
        return (), ()
    if own := config.get("label_names"):
        texts = config.get("label_descriptions") or {}
        return tuple(texts.get(name, name) for name in own), ()
    return described(classes)


def _config(model: nn.Module) -> Mapping[str, Any]:
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return config
