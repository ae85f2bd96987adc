"""One photo, one network, many methods: from nothing to pictures in one call.

Models, methods and pictures come from whatever is installed; this package only asks the registry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image

from camkit_core import Comparison, LoadedModel, OptionError, Registry, class_scores, compare

MODEL = "torchvision:resnet50@none"

METHODS = (
    "gradcam",
    "gradcampp",
    "hirescam",
    "layercam",
    "xgradcam",
    "eigengradcam",
    "eigencam",
    "fem",
    "random",
    "gaussian",
)
"""What is shown where it is installed; the last two are controls, blind to the class."""

RANDOM = (
    "The network's weights are random until the trained ones arrive: "
    "these pictures show how the methods work, not what a trained network sees."
)

_SEED = 0


def demonstrate(
    registry: Registry, out: Path, say: Callable[[str], None], *, model: str = MODEL
) -> dict[str, Path]:
    """Explain the cat photo by every method of `METHODS` that is installed.

    Args:
        registry: where the model, the methods and the pictures come from.
        out: folder for `chelsea.png`, one overlay per method and `grid.png`.
        say: takes one line of text after every step.
        model: what is explained.

    Returns:
        What was written: `photo`, `grid`, and one path per method.

    Raises:
        UnknownNameError: no method, renderer or writer is installed; the message says what to do.
        ModelError: nothing installed loads `model`.
        OptionError: `out` is not a folder.
    """
    methods = _installed(registry)
    renderer = registry.resolve("renderer", "grid")()
    _make(out)
    photo = _photo()
    written = {"photo": _save(photo, out / "chelsea.png")}
    say(f"[1/4] photo: scikit-image's cat, {photo.width} x {photo.height}, {written['photo']}")
    loaded = _load(registry, model)
    say(f"[2/4] network: {model}, {_describe(loaded)}")
    comparison = _explain(registry, loaded, photo, methods, say)
    for method, explanation in zip(methods, comparison.values(), strict=True):
        with _draft(out / f"chelsea__{method}.png") as draft:
            explanation.save(draft)
        written[method] = out / f"chelsea__{method}.png"
    written["grid"] = _save(renderer(list(comparison.values())), out / "grid.png")
    say(f"[4/4] pictures: one per method in {out}, side by side in {written['grid']}")
    if loaded.weights == "random":
        say(RANDOM)
    return written


def _installed(registry: Registry) -> list[str]:
    found = [name for name in METHODS if registry.has("method", name)]
    if not found:
        # Its error says which package has the methods.
        registry.find("method", METHODS[0])
    return found


def _photo() -> Image.Image:
    from skimage.data import chelsea

    return Image.fromarray(chelsea())  # type: ignore[no-untyped-call]


def _load(registry: Registry, spec: str) -> LoadedModel:
    """The model; random weights are the same in every demonstration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return registry.load_model(spec)


def _describe(loaded: LoadedModel) -> str:
    millions = sum(p.numel() for p in loaded.model.parameters()) / 1e6
    return f"{millions:.1f} million parameters, weights: {loaded.weights}"


def _explain(
    registry: Registry,
    loaded: LoadedModel,
    photo: Image.Image,
    methods: Sequence[str],
    say: Callable[[str], None],
) -> Comparison:
    comparison = compare(loaded, loaded.preprocess(photo), methods, seed=_SEED, registry=registry)
    first = next(iter(comparison.values()))
    share = float(class_scores(first.output).softmax(1).max())
    provenance = first.provenance
    say(
        f"[3/4] explained: {first.target.label!r} ({100 * share:.1f} %) at "
        f"{', '.join(provenance.layers) or 'the input'} by {len(methods)} methods, from "
        f"{provenance.forwards} forward and {provenance.backwards} backward passes"
    )
    return comparison


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"cannot make the folder {str(out)!r}: {error.strerror}; choose another with --out"
        ) from error


def _save(picture: Image.Image, path: Path) -> Path:
    with _draft(path) as draft:
        picture.save(draft, format="PNG")
    return path


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the final name only when it is complete."""
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
