"""transformers' vision networks: from a folder, from its cache, or built from a configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camkit_core import LoadedModel, ModelError, near
from camkit_tasks.loaders.hf_image_text import (
    STAND_IN_NOTE,
    ByteTokenizer,
    ImageEmbeddings,
    SavedTokenizer,
    TextEncoder,
    Tokenizer,
    has_tokenizer,
)
from camkit_tasks.loaders.hf_preprocess import preprocess_of
from camkit_tasks.loaders.hf_request import TASKS, Request, known_tasks, parse
from camkit_tasks.loaders.imagenet import ids_of
from camkit_tasks.loaders.weights import load_into, read_weights
from camkit_tasks.words import RANDOM_NOTE, first_few, one_line

SEED = 0
"""Seed of `@none`: the same network in every run."""


def load(spec: str) -> LoadedModel:
    """Model for `hf:NAME_OR_FOLDER[#TASK][@none | @file]`.

    With `@none` and a file, the name may also be a family (`vit`, `clip`), which stands for its
    default configuration.

    Raises:
        ModelError: transformers is missing, nothing of that name, or weights that do not fit.
        UnsafeFileError: a weights file that would run code.
    """
    request = parse(spec)
    _import_transformers(spec)
    config = _config(request)
    kind, task = _kind(config, request)
    model, weights, notes = _model(kind, config, request)
    return _loaded(model.eval(), config, request, task, weights, notes)


def _import_transformers(spec: str) -> None:
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{spec} needs the package transformers ({one_line(error)}); install it with: "
            "pip install transformers"
        ) from error


# -- which network ---------------------------------------------------------------------------------


def _config(request: Request) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    with _explained(request, "its configuration"):
        if request.folder is None and request.name in CONFIG_MAPPING:
            if not request.source:
                raise ModelError(
                    f"model {request.spec!r}: {request.name} is a family, not weights; pass "
                    f"hf:{request.name}@none for random weights, "
                    f"hf:{request.name}@file.safetensors for a file, or a folder with config.json "
                    "and weights"
                )
            return AutoConfig.for_model(request.name)
        return AutoConfig.from_pretrained(
            request.home, local_files_only=request.local, trust_remote_code=False
        )


@contextmanager
def _explained(request: Request, what: str, *, built: bool = False) -> Iterator[None]:
    """Turn what transformers raises into one line that says what to pass instead."""
    try:
        with _quiet():
            yield
    except ModelError:
        raise
    except Exception as error:  # of huggingface_hub, safetensors, pickle or the network's own
        found = "read from that folder" if request.folder else "found in the cache or downloaded"
        done = "built" if built else found
        raise ModelError(
            f"model {request.spec!r}: {what} could not be {done} ({one_line(error)}); pass a "
            "folder with config.json and model.safetensors, or a family without weights, e.g. "
            f"hf:vit@none{_families(request.name)}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' remarks on its own default configurations."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _families(name: str) -> str:
    from transformers import CONFIG_MAPPING

    return "" if "/" in name else near(name, list(CONFIG_MAPPING.keys()))


def _kind(config: Any, request: Request) -> tuple[type[nn.Module], str]:
    """Class of the network, and its task."""
    import transformers

    known = {task: _of_task(config, task) for task in TASKS}
    offered = {task: kind for task, kind in known.items() if kind is not None}
    if request.task:
        if request.task not in offered:
            raise ModelError(
                f"model {request.spec!r}: {config.model_type} has no network for {request.task}; "
                f"it has {', '.join(offered) or 'none for images'}"
            )
        return offered[request.task], request.task
    for name in config.architectures or ():
        saved = getattr(transformers, name, None)
        if saved is not None and _sees(saved):
            return saved, next((t for t, kind in offered.items() if kind is saved), "features")
    if not offered:
        raise ModelError(
            f"model {request.spec!r}: {config.model_type} has no network that takes an image "
            "alone; build it in your own code and pass file.py:factory"
        )
    task, kind = next(iter(offered.items()))
    return kind, task


def _of_task(config: Any, task: str) -> type[nn.Module] | None:
    import transformers

    mapping = getattr(transformers, TASKS[task])
    if type(config) not in mapping:
        return None
    found = mapping[type(config)]
    kind: type[nn.Module] = found[0] if isinstance(found, tuple) else found
    return kind if _sees(kind) else None


def _sees(kind: type[nn.Module]) -> bool:
    return "pixel_values" in inspect.signature(kind.forward).parameters


# -- weights ---------------------------------------------------------------------------------------


def _model(
    kind: type[nn.Module], config: Any, request: Request
) -> tuple[nn.Module, str, tuple[str, ...]]:
    """The network, what its weights are, and notes."""
    if not request.source:
        return _saved(kind, config, request)
    with _explained(request, f"a {kind.__name__} of that configuration", built=True):
        model = _built(kind, config)
    if request.source.lower() == "none":
        return model, "random", (RANDOM_NOTE,)
    path = Path(request.source).expanduser()
    return model, path.name, load_into(model, read_weights(path))


def _built(kind: Any, config: Any) -> nn.Module:
    """Random weights on the CPU; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(SEED)
        model: nn.Module = kind(config)
    return model


def _saved(kind: Any, config: Any, request: Request) -> tuple[nn.Module, str, tuple[str, ...]]:
    with _explained(request, "its weights"):
        model, info = kind.from_pretrained(
            request.home,
            config=config,
            local_files_only=request.local,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )
    missing, spare = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing:
        raise ModelError(
            f"model {request.spec!r}: the weights lack {len(missing)} tensors of "
            f"{kind.__name__} ({first_few(missing)}), which would be random; name another task "
            f"({known_tasks()}), e.g. hf:{request.name}#features"
        )
    notes = (f"{len(spare)} tensors are not used: {first_few(spare)}",) if spare else ()
    return model, Path(request.name).name, notes


# -- what comes with the network -------------------------------------------------------------------


def _loaded(
    model: nn.Module,
    config: Any,
    request: Request,
    task: str,
    weights: str,
    notes: tuple[str, ...],
) -> LoadedModel:
    named = _is_named(request)
    preprocess, more = preprocess_of(config, request.home if named else None, local=request.local)
    names = _class_names(config) if task in ("classification", "segmentation", "detection") else ()
    encode_text, network = None, model
    if task == "image-text":
        tokenize = _tokenizer(config, request)
        network, encode_text = ImageEmbeddings(model), TextEncoder(model, tokenize)
        more = (*more, STAND_IN_NOTE) if isinstance(tokenize, ByteTokenizer) else more
    return LoadedModel(
        model=network,
        spec=request.spec,
        weights=weights,
        preprocess=preprocess,
        class_names=names,
        class_ids=ids_of(names),
        multi_label=getattr(config, "problem_type", None) == "multi_label_classification",
        notes=(*notes, *more),
        encode_text=encode_text,
    )


def _is_named(request: Request) -> bool:
    """Whether files besides the configuration may be there: not for a bare family."""
    from transformers import CONFIG_MAPPING

    return request.folder is not None or request.name not in CONFIG_MAPPING


def _tokenizer(config: Any, request: Request) -> Tokenizer:
    """The saved one; a stand-in for random weights without."""
    random = request.source.lower() == "none"
    if not _is_named(request) or (random and not has_tokenizer(request.home)):
        return ByteTokenizer.of(config)
    return SavedTokenizer.of(request.home, config, local=request.local)


def _class_names(config: Any) -> tuple[str, ...]:
    """Names of the classes in order, unless they are numbered placeholders."""
    given = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if sorted(given) != list(range(len(given))):
        return ()
    names = tuple(given[index] for index in range(len(given)))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names
