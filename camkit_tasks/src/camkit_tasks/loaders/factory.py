"""Models from the user's own code: `file.py:factory`, `package.module:factory`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from camkit_core import LoadedModel, ModelError, Preprocess, near
from camkit_tasks.loaders.importing import import_file, siblings_importable
from camkit_tasks.photos.assume import assume_preprocess
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.photos.transforms import UNDERSTOOD, from_torchvision, is_torchvision
from camkit_tasks.words import one_line

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_RETURNS = (
    "an nn.Module, a LoadedModel, (model, preprocess), (model, preprocess, class_names), or a dict "
    "with these keys"
)
_KEYS = ("model", "preprocess", "class_names")


@dataclass(frozen=True)
class _Place:
    """Where a factory is to be found."""

    spec: str
    home: str  # file or module
    name: str  # dotted name inside it

    @property
    def is_file(self) -> bool:
        """Whether `home` is a path."""
        return self.home.endswith(".py")


def load(spec: str) -> LoadedModel | None:
    """The model that the user's factory builds, or None if the specification is of another kind.

    Raises:
        ModelError: nothing there, the code failed, or it returned something else.
    """
    home, colon, name = (part.strip() for part in spec.removeprefix("file:").rpartition(":"))
    ours = home.endswith(".py") or (_DOTTED.fullmatch(home) and "." in home)
    if not colon or not ours or not _DOTTED.fullmatch(name):
        _explain_file_alone(spec)
        return None
    place = _Place(spec, home, name)
    factory = _find(_module(place), place)
    return _as_loaded(_built(factory, place), place)


def _explain_file_alone(spec: str) -> None:
    """Say what is missing behind `file.py`; other specifications are somebody else's."""
    if spec.endswith(".py") or ".py:" in spec:
        file = spec.rpartition(":")[0] if ".py:" in spec else spec
        raise ModelError(
            f"model {spec!r}: after the file comes the name of a function without arguments that "
            f"returns the model, e.g. {file}:build"
        )


def _module(place: _Place) -> ModuleType:
    if place.is_file:
        path = Path(place.home).expanduser().resolve()
        if not path.is_file():
            names = [file.name for file in path.parent.glob("*.py")]
            raise ModelError(
                f"model {place.spec!r}: there is no file {path}{near(path.name, names)}"
            )
        with _told(place, "importing it"):
            return import_file(path)
    with _told(place, "importing it"):
        return importlib.import_module(place.home)


def _find(module: ModuleType, place: _Place) -> Any:
    found: Any = module
    for part in place.name.split("."):
        if not hasattr(found, part):
            names = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
            own = [n for n in names if getattr(vars(found)[n], "__module__", "") == module.__name__]
            hint = near(part, names) or f"; it has {', '.join(own) or 'no functions'}"
            raise ModelError(f"model {place.spec!r}: {place.home} has no {place.name!r}{hint}")
        found = getattr(found, part)
    return found


def _built(factory: Any, place: _Place) -> Any:
    """What the factory returns; a ready model needs no call."""
    if isinstance(factory, nn.Module | LoadedModel):
        return factory
    if not callable(factory):
        raise ModelError(
            f"model {place.spec!r}: {place.name} is {_what(factory)}, not a function that returns "
            f"{_RETURNS}"
        )
    _check_arguments(factory, place)
    with _told(place, f"calling {place.name}()"), _random_state(), _siblings(place):
        return factory()


def _check_arguments(factory: Callable[..., Any], place: _Place) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind()
    except TypeError as error:
        raise ModelError(
            f"model {place.spec!r}: {place.name}{signature} is called without arguments, but has "
            f"{error}; write a function that fills them in"
        ) from error


@contextlib.contextmanager
def _told(place: _Place, doing: str) -> Iterator[None]:
    """Turn what the user's code raises into one line with the place in that code."""
    try:
        yield
    except ModelError:
        raise  # already clear, e.g. from a load_model call in the user's code
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model {place.spec!r}: {doing} failed{_where(error)}: {one_line(error)}"
        ) from error


def _where(error: BaseException) -> str:
    """` at file:line`, the innermost place outside the import machinery and this package."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    own = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if not f.filename.startswith((own, "<"))]
    theirs = [f for f in outside if not re.search("site-packages|importlib", f.filename)]
    last = (theirs or outside)[-1:]
    return f" at {last[0].filename}:{last[0].lineno}" if last else ""


def _random_state() -> contextlib.AbstractContextManager[Any]:
    used = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if used else ()
    manager: contextlib.AbstractContextManager[Any] = torch.random.fork_rng(devices=list(devices))
    return manager


def _siblings(place: _Place) -> contextlib.AbstractContextManager[None]:
    if not place.is_file:
        return contextlib.nullcontext()
    return siblings_importable(Path(place.home).expanduser().resolve().parent)


# -- what the factory returned -----------------------------------------------------------------


def _as_loaded(built: Any, place: _Place) -> LoadedModel:
    if isinstance(built, LoadedModel):
        return dataclasses.replace(built, spec=place.spec)
    parts = _parts(built, place)
    model = parts["model"]
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {place.spec!r}: {place.name} returned {_what(built)}, expected {_RETURNS}"
        )
    preprocess, notes = _preprocess(parts.get("preprocess"), model, place)
    return LoadedModel(
        model=model.eval(),
        spec=place.spec,
        weights=f"as built by {Path(place.home).name}:{place.name}",
        preprocess=preprocess,
        class_names=_names(parts.get("class_names"), place),
        notes=notes,
    )


def _parts(built: Any, place: _Place) -> dict[str, Any]:
    if isinstance(built, Mapping) and not isinstance(built, nn.Module):
        unknown = [key for key in built if key not in _KEYS]
        if unknown or "model" not in built:
            raise ModelError(
                f"model {place.spec!r}: {place.name} returned a dict with keys {list(built)}, "
                f"expected model and optionally preprocess, class_names"
            )
        return dict(built)
    if isinstance(built, tuple) and len(built) in (2, 3):
        return dict(zip(_KEYS, built, strict=False))
    return {"model": built}


def _preprocess(given: Any, model: nn.Module, place: _Place) -> tuple[Preprocess, tuple[str, ...]]:
    if given is None:
        return assume_preprocess(model)
    if isinstance(given, ImagePreprocess):
        return given, ()
    if is_torchvision(given):
        return from_torchvision(given), ()
    if callable(given) and callable(getattr(given, "describe", None)):
        preprocess: Preprocess = given
        return preprocess, ()
    raise ModelError(
        f"model {place.spec!r}: preprocess is {_what(given)}, expected a "
        f"camkit_tasks.ImagePreprocess or torchvision transforms ({UNDERSTOOD})"
    )


def _names(given: Any, place: _Place) -> tuple[str, ...]:
    if given is None:
        return ()
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    if not listed or not all(isinstance(name, str) for name in given):
        raise ModelError(
            f"model {place.spec!r}: class_names is {_what(given)}, expected a list of strings, one "
            "per class in the order of the outputs"
        )
    return tuple(given)


def _what(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value) or 'nothing'}"
    return "None" if value is None else f"a {type(value).__name__}"
