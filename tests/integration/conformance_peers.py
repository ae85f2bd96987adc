"""The released grad-cam and torchcam, put through camkit's conformance checks.

python tests/integration/conformance_peers.py > docs/conformance-peers.md
"""

from __future__ import annotations

import contextlib
import gc
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from camkit_core import Claim, Need
from camkit_core.testing import Report, Row, Subject, check_method, explainer

PINNED = {"grad-cam": "1.5.7", "torchcam": "0.5.0"}

PERMUTATION, RESCALING = Claim.CHANNEL_PERMUTATION, Claim.CHANNEL_RESCALING
SCALING, SHIFT = Claim.SCORE_SCALING, Claim.SCORE_SHIFT
ALL = (Claim.DETERMINISTIC, PERMUTATION, RESCALING, SCALING, SHIFT)
LINEAR = (*ALL, Claim.GAP_IS_CAM, Claim.LINEAR_IN_TARGET)
BLIND = (Claim.DETERMINISTIC, PERMUTATION, SCALING, SHIFT)

CLAIMS: dict[str, Iterable[Claim]] = {
    "gradcam": LINEAR,
    "shapleycam": LINEAR,
    "hirescam": (*LINEAR, Claim.CONSERVATION, Claim.LOCALITY),
    "xgradcam": (*LINEAR, Claim.CONSERVATION),
    "gradcampp": (Claim.DETERMINISTIC, PERMUTATION, RESCALING, SHIFT),
    "layercam": (*ALL, Claim.LOCALITY),
    "gradcamelementwise": (*ALL, Claim.LOCALITY),
    "eigengradcam": ALL,
    "segeigencam": ALL,
    "eigencam": BLIND,
    "kpcacam": BLIND,
    "fem": BLIND,
    "cam": (*ALL,),
}
"""What each algorithm's equation implies, as for camkit's own methods."""

SECOND = Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER


@dataclass(frozen=True)
class Peer:
    """One method of a released library."""

    library: str
    name: str
    algorithm: str
    run: Callable[[nn.Module, Tensor, Any, str], Tensor]
    needs: Need = Need.ACTIVATIONS | Need.GRADIENTS
    besides: tuple[Claim, ...] = ()  # what its own formula implies besides

    @property
    def subject(self) -> Subject:
        """For the checks; the second word of its name finds the equation."""
        return explainer(
            f"{self.library} {self.algorithm}",
            self.run,
            claims=(*CLAIMS[self.algorithm], *self.besides),
            needs=self.needs,
            class_discriminative=bool(self.needs & (Need.GRADIENTS | Need.HEAD)),
        )

    def report(self) -> Report:
        """All checks that make sense for an engine of its own."""
        with warnings.catch_warnings(), quiet_finalizers():
            warnings.simplefilter("ignore")
            return check_method(self.subject, on_fail="report")


@contextlib.contextmanager
def quiet_finalizers() -> Iterator[None]:
    """Errors in a peer's `__del__` are noise here: nothing depends on when they come."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = before


# -- grad-cam ---------------------------------------------------------------------------------


def grad_cam(kind: Any) -> Callable[[nn.Module, Tensor, Any, str], Tensor]:
    """A class of grad-cam as its README calls it; the raw map is picked up before its ReLU."""

    def run(model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        found: list[Any] = []
        with silent(), kind(model=model, target_layers=[model.get_submodule(layer)]) as cam:
            own = cam.get_cam_image

            def keep(*arguments: Any, **words: Any) -> Any:
                found.append(own(*arguments, **words))
                return found[-1].copy()

            cam.get_cam_image = keep
            cam(input_tensor=x, targets=grad_cam_targets(target, len(x)))
        return torch.as_tensor(found[0])

    return run


def grad_cam_targets(target: Any, images: int) -> list[Any] | None:
    """One callable per image, or None for the top class."""
    if target is None:
        return None
    targets = target if isinstance(target, list) else [target] * images
    return [one if callable(one) else ClassifierOutputTarget(one) for one in targets]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """What it prints is not the question here."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


# -- torchcam ---------------------------------------------------------------------------------


def torchcam_method(kind: Any, **words: Any) -> Callable[[nn.Module, Tensor, Any, str], Tensor]:
    """A class of torchcam as its README calls it: the caller runs the model.

    Normalization is switched off by its own option, and its ReLU by its attribute, so that signed
    maps are compared.
    """

    def run(model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        if kind is torchcam.methods.CAM:
            words["fc_layer"] = last_linear(model)
        with evaluating(model), kind(model, target_layer=layer, **words) as extractor:
            extractor._relu = False
            scores = model(x)
            if target is None:
                target = scores.argmax(1).tolist()
            given: dict[str, Any] = {"class_idx": target}
            if callable(target):
                given = {"targets": target}
            (found,) = extractor(scores=scores, normalized=False, **given)
        return torch.as_tensor(found)

    return run


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A careful caller: evaluation mode for the call, every module's flag put back after it."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def last_linear(model: nn.Module) -> str:
    """Name of the classifier."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


A = Need.ACTIVATIONS
G = pytorch_grad_cam
T = torchcam.methods

PEERS: tuple[Peer, ...] = (
    Peer("grad-cam", "GradCAM", "gradcam", grad_cam(G.GradCAM)),
    Peer("grad-cam", "HiResCAM", "hirescam", grad_cam(G.HiResCAM)),
    Peer("grad-cam", "GradCAMElementWise", "gradcamelementwise", grad_cam(G.GradCAMElementWise)),
    Peer("grad-cam", "GradCAMPlusPlus", "gradcampp", grad_cam(G.GradCAMPlusPlus)),
    Peer("grad-cam", "XGradCAM", "xgradcam", grad_cam(G.XGradCAM)),
    Peer("grad-cam", "LayerCAM", "layercam", grad_cam(G.LayerCAM)),
    Peer("grad-cam", "ShapleyCAM", "shapleycam", grad_cam(G.ShapleyCAM), SECOND),
    Peer("grad-cam", "EigenGradCAM", "eigengradcam", grad_cam(G.EigenGradCAM)),
    Peer("grad-cam", "SegEigenCAM", "segeigencam", grad_cam(G.SegEigenCAM)),
    Peer("grad-cam", "EigenCAM", "eigencam", grad_cam(G.EigenCAM), A),
    Peer("grad-cam", "KPCA_CAM", "kpcacam", grad_cam(G.KPCA_CAM), A),
    Peer("grad-cam", "FEM", "fem", grad_cam(G.FEM), A),
    Peer("torchcam", "CAM", "cam", torchcam_method(T.CAM), A | Need.HEAD),
    Peer("torchcam", "GradCAM", "gradcam", torchcam_method(T.GradCAM)),
    Peer("torchcam", "GradCAMpp", "gradcampp", torchcam_method(T.GradCAMpp), besides=(SCALING,)),
    Peer("torchcam", "XGradCAM", "xgradcam", torchcam_method(T.XGradCAM)),
    Peer("torchcam", "LayerCAM", "layercam", torchcam_method(T.LayerCAM)),
)

# -- the page ---------------------------------------------------------------------------------

SMALL = 1e-5
SIGN = ("channel_permutation", "flip", "shift")
"""Which of these an arbitrary sign fails depends on the machine's linear algebra."""
ANY_SIGN = "channel_permutation, flip or shift"
COMPONENTS = ("eigencam", "eigengradcam")

INTRO = """# Released peers in the conformance checks

<!-- made by: python tests/integration/conformance_peers.py > docs/conformance-peers.md -->

The checks of [conformance.md](conformance.md) do not need camkit's engine: any function
`(model, images, target, layer) -> raw map` can be put through those that concern maps and traces.
Here they are applied to the released {releases},
called as their documentation shows.
Made with {versions}.

How to read it. The raw, signed map is compared, before display: grad-cam's is picked up before its
ReLU and resizing; torchcam's is asked for without normalization and with its ReLU switched off, and
the model is put into evaluation mode for the call, as its documentation asks of the caller. Each
algorithm is held to the identities that its own published equation implies. Checks of camkit's own
engine (issues, provenance, counted passes) do not apply and are not counted. "Stops with an error"
is the honest way to fail; "small" are differences below {small} of the largest value, mostly
absolute epsilons, which show only because the checks are exact to 1e-9. Defaults are tested. The
networks are tiny and made to provoke: a failed check says that the fault exists, not how often it
matters.
"""


@dataclass(frozen=True)
class Verdict:
    """The failed checks of a peer, by how they fail."""

    passed: int
    wrong: tuple[str, ...]
    small: tuple[str, ...]
    stops: tuple[str, ...]


def verdict(peer: Peer) -> Verdict:
    """Sorted by kind, in the order of the checks."""
    kinds: dict[str, list[str]] = {"wrong": [], "small": [], "stops": []}
    signs = SIGN if peer.algorithm in COMPONENTS else ()
    rows = peer.report().rows
    for row in (row for row in rows if row.status == "failed"):
        name = ANY_SIGN if row.check in signs else row.check
        if name not in kinds[kind_of(row)]:
            kinds[kind_of(row)].append(name)
    passed = sum(row.status == "passed" and row.check not in signs for row in rows)
    return Verdict(passed, *(tuple(kinds[kind]) for kind in ("wrong", "small", "stops")))


def kind_of(row: Row) -> str:
    """An exception, a difference near rounding, or a wrong answer or trace."""
    if row.message.startswith("raised "):
        return "stops"
    found = re.search(r"(?:differ|misses sum\(G \* A\)) by ([\d.e+-]+)", row.message)
    return "small" if found and float(found[1]) < SMALL else "wrong"


@cache
def verdicts() -> Mapping[Peer, Verdict]:
    """All peers; a few seconds."""
    return {peer: verdict(peer) for peer in PEERS}


EXPLAINED: dict[tuple[str, str], str] = {
    ("grad-cam", "reference"): (
        "GradCAMPlusPlus adds 1e-6 to a denominator of the size of the squared gradient, so small "
        "gradients follow another formula; EigenCAM centers the activations first, which the "
        "paper's equations 4 and 5 do not."
    ),
    ("grad-cam", "channel_rescaling"): (
        "The same 1e-6 of GradCAMPlusPlus is added to squared gradients, whose unit depends on the "
        "channel's."
    ),
    ("grad-cam", ANY_SIGN): (
        "The sign of a principal component is left as the decomposition gives it: reordering "
        "channels, or mirroring or shifting the image, can invert the picture (which of them does "
        "depends on the machine's linear algebra)."
    ),
    ("grad-cam", "inplace_network"): (
        "Activations are kept as a view of the layer's output; what overwrites that memory behind "
        "the layer changes the map (methods with gradients stop with an error in this network)."
    ),
    ("grad-cam", "model_untouched"): (
        "The constructor calls `model.eval()` and nothing puts the flags back; methods with "
        "gradients replace the parameters' `.grad` (`zero_grad()`, `backward()`)."
    ),
    ("grad-cam", "untouched_after_model_error"): "As `model_untouched`, when the model raises.",
    ("grad-cam", "untouched_after_target_error"): "As `model_untouched`, when the target raises.",
    ("grad-cam", "non_finite_input"): (
        "NaN in what is decomposed is replaced by zero, so an image with NaN has a finite picture."
    ),
    ("grad-cam", "non_finite_inside"): "The same, where NaN first appears inside the model.",
    ("grad-cam", "bad_targets"): (
        "Targets and images are paired as far as the shorter list goes, so images without a target "
        "get an empty map; class -1 is the last class."
    ),
    ("torchcam", "reference"): (
        "GradCAMpp's denominator is never applied (it divides a copy made by boolean indexing), so "
        "alpha is the squared gradient."
    ),
    ("torchcam", "channel_rescaling"): "The same missing denominator of GradCAMpp.",
    ("torchcam", "inplace_network"): (
        "Activations are kept as a view of the layer's output; what overwrites that memory behind "
        "the layer changes the map."
    ),
    ("torchcam", "extreme_gradients"): (
        "GradCAMpp forms powers of the gradient, which leave the range of float32 long before the "
        "map does."
    ),
    ("torchcam", "non_finite_input"): (
        "The weighted sum skips NaN (`nansum`), so an image with NaN has a finite map."
    ),
    ("torchcam", "non_finite_inside"): "The same, where NaN first appears inside the model.",
}


def markdown() -> str:
    """The whole page."""
    releases = " and ".join(f"{name} {release}" for name, release in PINNED.items())
    used = ", ".join(f"{name} {version(name)}" for name in (*PINNED, "torch"))
    parts = [INTRO.format(releases=releases, versions=used, small=f"{SMALL:.0e}"), *table()]
    return "\n".join([*parts, "", "## What the wrong answers and traces are", "", *findings(), ""])


def table() -> Iterator[str]:
    """One line per method."""
    yield "| method | passed | wrong answer, or trace left | small | stops with an error |"
    yield "| --- | --- | --- | --- | --- |"
    for peer, found in verdicts().items():
        cells = (names(found.wrong), names(found.small), names(found.stops))
        yield f"| {peer.library} {peer.name} | {found.passed} | {' | '.join(cells)} |"


def names(checks: Iterable[str]) -> str:
    """As code."""
    return ", ".join(f"`{check}`" for check in checks)


def wrong() -> set[tuple[str, str]]:
    """Library and check of every wrong answer."""
    return {(peer.library, check) for peer, v in verdicts().items() for check in v.wrong}


def findings() -> Iterator[str]:
    """One explanation per library and check."""
    for key in sorted(wrong(), key=list(EXPLAINED).index):
        yield f"- {key[0]}, `{key[1]}`: {EXPLAINED[key]}"


if __name__ == "__main__":
    print(markdown(), end="")
