"""Checks of targets: bound once, then a pure function of any output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import CamkitError, CapabilityError
from camkit_core.protocols import BoundTarget, TargetInfo
from camkit_core.testing.judge import EXACT, ensure, fail
from camkit_core.testing.kinds.made import example_of, made
from camkit_core.testing.report import Report
from camkit_core.testing.run import NOTHING, OnFail
from camkit_core.testing.suite import Suite, Tier
from camkit_core.tree import floating, map_tensors, take, tensors

SUITE: Suite[TargetSubject] = Suite("target")


@dataclass(frozen=True)
class TargetSubject:
    """A target and a clean output of N images for it."""

    target: Any
    output: Any
    plain: bool  # the output is the kit's own class scores

    @property
    def images(self) -> int:
        """N."""
        return len(self.output) if self.listed else len(floating(self.output)[0])

    @property
    def listed(self) -> bool:
        """Whether the output is a list with something of its own for each image."""
        return isinstance(self.output, list) and not all(
            isinstance(one, Tensor) for one in self.output
        )

    def split(self, values: list[Tensor], row: int) -> tuple[list[Tensor], list[Tensor]]:
        """Of one value for every floating tensor: what belongs to an image, and to the others."""
        if self.listed:
            images = [image for image, one in enumerate(self.output) for _ in floating(one)]
            pairs = list(zip(images, values, strict=True))
            return [v for i, v in pairs if i == row], [v for i, v in pairs if i != row]
        batched = [value for value in values if len(value) == self.images]
        return [v[row] for v in batched], [v[self.rows != row] for v in batched]

    @property
    def rows(self) -> Tensor:
        """`0 .. N-1`."""
        return torch.arange(self.images)

    def bind(self, output: Any = None) -> BoundTarget:
        """Bound on the clean output, or another; there is no model to run."""
        given = self.output if output is None else output
        bound: BoundTarget = self.target.bind(given, _no_model)
        return bound

    def other(self) -> Any:
        """Another output: every tensor upside down along its last axis, and other values."""
        return map_tensors(
            lambda t: t.flip(-1) * 0.7 + 0.1 if t.is_floating_point() else t, self.output
        )


def _no_model(inputs: Any) -> Any:
    raise CapabilityError("this check has no model to run; pass check_target(..., output=...)")


def class_scores() -> Tensor:
    """Scores `[4, 5]` with three different winners."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    scores[torch.arange(4), [1, 3, 1, 0]] += 3.0
    return scores


def target_subject(target: Any, output: Any = None) -> tuple[TargetSubject, str]:
    """Subject and name."""
    example = example_of("target", target) if output is None else None
    if example is not None:
        found, output = example()
        return TargetSubject(found, output, plain=False), getattr(target, "__name__", target)
    found, name = made("target", target)
    given = class_scores() if output is None else output
    return TargetSubject(found, given, output is None), name


def check_target(
    target: Any,
    *,
    output: Any = None,
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
    on_fail: OnFail = "raise",
) -> Report:
    """Put a target through its checks.

    Args:
        target: instance, class or registered name. A class with `example()`, which returns a
            target and an output for it, is checked on these.
        output: what a model would return for N >= 2 images (default: class scores `[4, 5]`); a
            list with one entry per image is fine.
        expected_failures: see `check_method`.
        tier: see `check_method`.
        on_fail: see `check_method`.

    Raises:
        ConformanceError: a check failed.
    """
    subject, name = target_subject(target, output)
    return SUITE.run(subject, name, expected_failures, tier, on_fail)


@SUITE.check("bind gives a bound target and leaves the output alone")
def binds(subject: TargetSubject) -> None:
    """Callable, with a description."""
    kept = map_tensors(Tensor.clone, subject.output)
    bound = subject.bind()
    ensure(
        isinstance(bound, BoundTarget),
        f"bind returned {type(bound).__name__}; it needs __call__(output, owner) and describe()",
    )
    bound(subject.output, subject.rows)
    pairs = zip(tensors(kept), tensors(subject.output), strict=True)
    ensure(all(torch.equal(a, b) for a, b in pairs), "the output was changed")


@SUITE.check("one finite floating score per row")
def scores(subject: TargetSubject) -> None:
    """`[M]`."""
    found = subject.bind()(subject.output, subject.rows)
    ensure(
        isinstance(found, Tensor) and list(found.shape) == [subject.images],
        f"{subject.images} rows were scored as "
        f"{list(found.shape) if isinstance(found, Tensor) else type(found).__name__}; return one "
        f"number per row, [{subject.images}]",
    )
    ensure(found.is_floating_point(), f"the scores are {found.dtype}")
    ensure(bool(torch.isfinite(found).all()), f"the scores are {found.tolist()}")


@SUITE.check("row m is scored as the image owner[m] asks, in any order and number (1e-9)")
def owners(subject: TargetSubject) -> None:
    """Perturbed batches have other rows than the clean one."""
    bound, n = subject.bind(), subject.images
    clean = bound(subject.output, subject.rows)
    for order in ([n - 1, 0], [0] * 3, [*range(n), *range(n)], [1]):
        owner = torch.tensor(order)
        found = bound(take(subject.output, owner, n), owner)
        _close(
            found,
            clean[owner],
            f"rows of images {order}; use owner to look up what belongs to each row's image",
        )


@SUITE.check("describe() names what is explained, and the class of every image if there is one")
def description(subject: TargetSubject) -> None:
    """`TargetInfo`."""
    info = subject.bind().describe()
    ensure(isinstance(info, TargetInfo), f"describe() returned {type(info).__name__}")
    ensure(bool(info.kind.strip() and info.label.strip()), "describe() has no kind or label")
    n = subject.images
    ensure(len(info.labels) in (0, n), f"{len(info.labels)} labels for {n} images")
    if info.classes is not None:
        ensure(
            list(info.classes.shape) == [n] and info.classes.dtype == torch.long,
            f"classes are {info.classes.dtype} {list(info.classes.shape)}, expected long [{n}]",
        )


def _gradient(bound: BoundTarget, output: Any, owner: Tensor, row: int) -> list[Tensor]:
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        leaves.append(tensor.detach().clone().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        value = bound(map_tensors(leaf, output), owner)
        ensure(
            value.requires_grad,
            "the score is not connected to the output by gradients: argmax, .item(), .detach() or "
            "rounding cuts it; if it must, describe() has to say differentiable=False",
        )
        found = torch.autograd.grad(value[row], leaves, materialize_grads=True)
    return list(found)


@SUITE.check("the score is differentiable, and each row's depends on that row only")
def gradients(subject: TargetSubject) -> None:
    """Unless `describe()` says otherwise."""
    bound = subject.bind()
    if not bound.describe().differentiable:
        return
    for row in range(subject.images):
        found = _gradient(bound, subject.output, subject.rows, row)
        own, rest = (sum(float(g.abs().sum()) for g in of) for of in subject.split(found, row))
        ensure(own > 0, f"the score of image {row} has no gradient at its own output")
        ensure(rest == 0, f"the score of image {row} depends on the output of other images")


def _no_classes(subject: TargetSubject) -> str:
    try:
        info = subject.bind().describe()
        known = info.classes is not None and floating(subject.output)[0].ndim == 2
    except Exception:
        return ""
    return "" if known else "it names no class"


@SUITE.check("the class stays the one chosen on the clean output", unless=_no_classes)
def frozen(subject: TargetSubject) -> None:
    """On an output with other winners, the score still rises with the chosen class."""
    bound, other = subject.bind(), subject.other()
    classes = bound.describe().classes
    assert classes is not None
    for row, chosen in enumerate(classes.tolist()):
        slope = float(_gradient(bound, other, subject.rows, row)[0][row, chosen])
        ensure(
            slope > 0,
            f"image {row}: class {chosen} was chosen on the clean output, but on another output "
            f"the score does not rise with it (slope {slope:.3g}): the class is chosen anew",
        )


@SUITE.check("scoring one output does not change how another is scored (bit for bit)")
def no_memory(subject: TargetSubject) -> None:
    """Neither in the bound target, nor in the target."""
    bound = subject.bind()
    before = bound(subject.output, subject.rows).clone()
    bound(subject.other(), subject.rows)
    ensure(torch.equal(bound(subject.output, subject.rows), before), "the bound target keeps state")
    subject.bind(subject.other())
    ensure(
        torch.equal(bound(subject.output, subject.rows), before),
        "binding the target on another output changed an earlier bound target: bind() must return "
        "a new object",
    )


@SUITE.check("float32 scores agree with float64 ones (1e-4), half-precision ones are finite")
def precision(subject: TargetSubject) -> None:
    """Differences of logits survive."""
    wanted = subject.bind()(subject.output, subject.rows)

    def cast(dtype: torch.dtype) -> Any:
        return map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, subject.output)

    single = cast(torch.float32)
    _close(subject.bind(single)(single, subject.rows), wanted, "float32 scores", 1e-4)
    half = cast(torch.bfloat16)
    found = subject.bind(half)(half, subject.rows)
    ensure(bool(torch.isfinite(found).all()), "bfloat16 scores are not finite")


@SUITE.check("an output it cannot read is refused with an error of camkit")
def unsuitable(subject: TargetSubject) -> None:
    """A dictionary without tensors."""
    try:
        subject.bind({"nothing": None})(None, subject.rows)
    except CamkitError:
        return
    except Exception as error:
        fail(
            f"an output without tensors raises {type(error).__name__}; raise TargetError and say "
            "what was expected"
        )
    fail("an output without tensors is scored")


@SUITE.check(
    "a network is explained for it", unless=lambda s: "" if s.plain else "the output is not ours"
)
def explains(subject: TargetSubject) -> None:
    """Gradient times activation of a small classifier."""
    from camkit_core.testing.fixtures import Witness
    from camkit_core.testing.judge import live
    from camkit_core.testing.networks import SmoothNet, images
    from camkit_core.testing.subject import subject_of

    if subject.bind().describe().differentiable:
        live(subject_of(Witness()).raw(SmoothNet(seed=1), images(3), subject.target))


def _close(found: Tensor, wanted: Tensor, what: str, tolerance: float = EXACT) -> None:
    ensure(
        found.shape == wanted.shape, f"{what}: {list(found.shape)} scores, not {list(wanted.shape)}"
    )
    off = float((found.double() - wanted.double()).abs().max() / wanted.abs().max().clamp_min(1e-9))
    ensure(off <= tolerance, f"{what}: scores differ by {off:.3g} of the largest")
