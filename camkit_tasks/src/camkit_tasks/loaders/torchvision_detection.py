"""torchvision's detectors: Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS, SSD.

They resize and normalize by themselves, so a photo is only brought to [0, 1]. Their score threshold
stays as it is: what it drops cannot be explained.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import LoadedModel, ModelError, near
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
_HEADS = (
    "roi_heads.box_predictor.cls_score.weight",
    "head.classification_head.cls_logits.weight",
    "head.classification_head.module_list.0.weight",
    "head.classification_head.module_list.0.1.weight",
)
"""Where the scores of the classes come from; their rows are a multiple of the number of classes."""


def detectors() -> list[str]:
    """Names of torchvision's detectors."""
    found: list[str] = import_torchvision("models").list_models(
        module=import_torchvision("models.detection")
    )
    return found


def load(name: str, source: str, spec: str) -> LoadedModel:
    """A detector with published weights, with random ones (`none`), or with those of a file.

    Raises:
        ModelError: unknown weights, a failed download, a file that does not fit.
        UnsafeFileError: a weights file that would run code.
    """
    weights = import_torchvision("models").get_model_weights(name)
    if source.lower() == "none":
        notes = (RANDOM_NOTE, "random scores are low, so no detection is dropped for its score")
        return _loaded(_undiscerning(_built(name)), spec, "random", weights.DEFAULT, notes)
    if is_weights_file(source):
        return _from_file(name, Path(source).expanduser(), spec, weights)
    return _published(name, source, spec, weights)


def _undiscerning(model: nn.Module) -> nn.Module:
    """The detector without its threshold, under which all scores of random weights lie."""
    for module in model.modules():
        if isinstance(getattr(module, "score_thresh", None), float):
            module.score_thresh = 0.0  # type: ignore[assignment]  # a plain number
    return model


def _built(name: str, published: Any = None, **options: Any) -> nn.Module:
    """The network on the CPU, in eval mode; the global random state stays as it is."""
    get = import_torchvision("models").get_model
    # Without this, random weights would come with a downloaded backbone.
    options = {**options, "weights_backbone": None}
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(SEED)
        model: nn.Module = get(name, weights=published, progress=sys.stderr.isatty(), **options)
    return model.eval()


def _published(name: str, source: str, spec: str, weights: Any) -> LoadedModel:
    names = list(weights.__members__)
    if source not in names:
        raise ModelError(
            f"{name} has no weights {source!r}{near(source, names)}; expected none, "
            f"{', '.join(names)}, or a file ending in {', '.join(SUFFIXES)}"
        )
    chosen = weights[source]
    try:
        model = _built(name, chosen)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the pretrained weights {chosen} of {name} could not be downloaded "
            f"({one_line(error)}); pass torchvision:{name}@file.safetensors (or .pth) for weights "
            f"on disk, or torchvision:{name}@none for random ones"
        ) from error
    return _loaded(model, spec, str(chosen), chosen)


def _from_file(name: str, path: Path, spec: str, weights: Any) -> LoadedModel:
    model = _built(name)
    file = as_named_in(model, read_weights(path))
    classes = _classes(model, file.tensors, len(weights.DEFAULT.meta["categories"]))
    if classes is not None:
        model = _built(name, num_classes=classes)
    notes = load_into(model, file)
    if classes is None:
        assumed = f"class names are ASSUMED to be those of {weights.DEFAULT}"
        return _loaded(model, spec, path.name, weights.DEFAULT, (assumed, *notes))
    unknown = f"the file has {classes} classes (with the background), whose names are not known"
    return _loaded(model, spec, path.name, None, (unknown, *notes))


def _classes(model: nn.Module, state: Mapping[str, Tensor], usual: int) -> int | None:
    """Classes of a file where they differ from the usual number, else None."""
    own = model.state_dict()
    for name in _HEADS:
        if name in own and name in state:
            found = usual * len(state[name]) // len(own[name])
            return None if found == usual else found
    return None


def _loaded(
    model: nn.Module, spec: str, weights: str, published: Any, notes: tuple[str, ...] = ()
) -> LoadedModel:
    return LoadedModel(
        model=model,
        spec=spec,
        weights=weights,
        preprocess=ImagePreprocess(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3),
        class_names=tuple(published.meta["categories"]) if published else (),
        notes=notes,
    )
