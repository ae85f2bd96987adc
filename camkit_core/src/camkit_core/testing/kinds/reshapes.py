"""Checks of reshapes: purely structural, in raster order, and invertible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.errors import CamkitError, LayoutError
from camkit_core.testing.judge import ensure, fail
from camkit_core.testing.kinds.made import example_of, made
from camkit_core.testing.layouts import numbered, token_layouts
from camkit_core.testing.report import Report
from camkit_core.testing.run import NOTHING, OnFail
from camkit_core.testing.suite import Suite, Tier
from camkit_core.tree import floating, map_tensors, take


@dataclass(frozen=True)
class ReshapeSubject:
    """A reshape and layer outputs for it, numbered so that every value can be followed."""

    reshape: Any
    outputs: tuple[Any, ...]
    given: bool  # outputs were given, not the kit's own


SUITE: Suite[ReshapeSubject] = Suite("reshape")


def _numbers(output: Any) -> Any:
    """The same structure with every value another one."""
    start = 1

    def number(tensor: Tensor) -> Tensor:
        nonlocal start
        if not tensor.is_floating_point():
            return tensor
        found = torch.arange(start, start + tensor.numel(), dtype=torch.float64)
        start += tensor.numel()
        return found.reshape(tensor.shape)

    return map_tensors(number, output)


def _suitable(reshape: Any) -> tuple[Any, ...]:
    """Those of the kit's own outputs that the reshape does not refuse."""
    sizes = [(3, 5), (7,), (2, 3, 4)]
    plain = [numbered(2, 4, size) for size in sizes]
    last = [one.movedim(1, -1).contiguous() for one in plain]
    own = [tokens for _, tokens, _ in token_layouts()]
    found = []
    for output in [*own, *plain, *last]:
        try:
            reshape.to_spatial(output)
        except (CamkitError, RuntimeError, ValueError):
            continue
        found.append(_numbers(output))
    return tuple(found)


def reshape_subject(reshape: Any, outputs: tuple[Any, ...] = ()) -> tuple[ReshapeSubject, str]:
    """Subject and name."""
    example = None if outputs else example_of("reshape", reshape)
    if example is not None:
        found, *own = example()
        return ReshapeSubject(found, tuple(map(_numbers, own)), True), str(reshape)
    found, name = made("reshape", reshape)
    numbered_outputs = tuple(map(_numbers, outputs)) or _suitable(found)
    return ReshapeSubject(found, numbered_outputs, bool(outputs)), name


def check_reshape(
    reshape: Any,
    *outputs: Any,
    expected_failures: Mapping[str, str] = NOTHING,
    tier: Tier = "fast",
    on_fail: OnFail = "raise",
) -> Report:
    """Put a reshape through its checks.

    Args:
        reshape: instance, class or registered name. A class with `example()`, which returns a
            reshape and layer outputs for it, is checked on these.
        outputs: layer outputs for N >= 2 images that it reads; only their structure and shapes
            matter. Without any, the kit's own tokens, channel-first and channel-last outputs.
        expected_failures: see `check_method`.
        tier: see `check_method`.
        on_fail: see `check_method`.

    Raises:
        ConformanceError: a check failed.
    """
    subject, name = reshape_subject(reshape, outputs)
    return SUITE.run(subject, name, expected_failures, tier, on_fail)


def _images(output: Any) -> int:
    return len(floating(output)[0])


@SUITE.check("layer outputs become [N, C, *S]")
def picture(subject: ReshapeSubject) -> None:
    """As many images, at least one spatial axis."""
    ensure(
        bool(subject.outputs),
        "the reshape refused every layout of the kit: pass check_reshape(reshape, output) with an "
        "output that it reads",
    )
    for output in subject.outputs:
        found = subject.reshape.to_spatial(output)
        ensure(
            isinstance(found, Tensor) and found.ndim >= 3 and len(found) == _images(output),
            f"{_shape(output)} became {_shape(found)}, not [N, C, *S] with N = {_images(output)}",
        )


@SUITE.check("it selects and moves values, and computes none")
def structural(subject: ReshapeSubject) -> None:
    """Every value of the picture is one of the output's, and none is there twice."""
    for output in subject.outputs:
        found = subject.reshape.to_spatial(output).flatten()
        known = torch.cat([t.flatten() for t in floating(output)])
        ensure(
            bool(torch.isin(found, known).all()),
            f"{_shape(output)}: the picture has values that the output has not; a reshape is "
            "applied to gradients too, so it may only select, permute and view",
        )
        ensure(len(found.unique()) == len(found), f"{_shape(output)}: values are repeated")


@SUITE.check("row n of the picture comes from row n of the output")
def batches(subject: ReshapeSubject) -> None:
    """Alone and in a batch."""
    for output in subject.outputs:
        n, whole = _images(output), subject.reshape.to_spatial(output)
        for row in range(n):
            alone = subject.reshape.to_spatial(take(output, torch.tensor([row]), n))
            ensure(
                alone.shape[1:] == whole.shape[1:] and torch.equal(alone[0], whole[row]),
                f"{_shape(output)}: image {row} alone has another picture than in its batch",
            )


@SUITE.check("positions keep their order: rows first, then columns")
def raster_order(subject: ReshapeSubject) -> None:
    """A transposed grid shows here."""
    for output in subject.outputs:
        found = subject.reshape.to_spatial(output)[0]
        order = found.reshape(len(found), -1)
        ensure(
            bool((order.diff(dim=1) > 0).all()),
            f"{_shape(output)}: going through the picture row by row goes back and forth in the "
            "layer's output; the axes of the grid are probably swapped",
        )


@SUITE.check("from_spatial undoes to_spatial, and to_spatial undoes from_spatial (bit for bit)")
def round_trip(subject: ReshapeSubject) -> None:
    """What is not spatial comes from `like`."""
    for output in subject.outputs:
        maps = subject.reshape.to_spatial(output)
        back = subject.reshape.from_spatial(maps, output)
        same = all(torch.equal(a, b) for a, b in zip(floating(back), floating(output), strict=True))
        ensure(same, f"{_shape(output)}: from_spatial(to_spatial(output)) is another output")
        again = subject.reshape.to_spatial(subject.reshape.from_spatial(-maps, output))
        ensure(
            torch.equal(again, -maps),
            f"{_shape(output)}: to_spatial(from_spatial(maps)) has other maps",
        )


@SUITE.check("from_spatial changes what is spatial, and nothing else")
def keeps_the_rest(subject: ReshapeSubject) -> None:
    """Class and register tokens stay; `like` itself is not written to."""
    for output in subject.outputs:
        kept = map_tensors(Tensor.clone, output)
        maps = subject.reshape.to_spatial(output)
        inside = torch.isin(torch.cat([t.flatten() for t in floating(output)]), maps.flatten())
        changed = subject.reshape.from_spatial(-maps, output)
        flat = torch.cat([t.flatten() for t in floating(changed)])
        before = torch.cat([t.flatten() for t in floating(kept)])
        ensure(
            torch.equal(flat, torch.where(inside, -before, before)),
            f"{_shape(output)}: from_spatial loses or changes values that are not in the picture",
        )
        same = all(torch.equal(a, b) for a, b in zip(floating(kept), floating(output), strict=True))
        ensure(same, f"{_shape(output)}: the layer output was written to")


@SUITE.check("the picture is a function of the output for gradients, too")
def gradients(subject: ReshapeSubject) -> None:
    """Each picked value has slope one, every other zero."""
    for output in subject.outputs:
        leaves = [t.detach().clone().requires_grad_() for t in floating(output)]
        with torch.enable_grad():
            total = subject.reshape.to_spatial(_refilled(output, leaves)).sum()
            ensure(total.requires_grad, f"{_shape(output)}: the picture is cut off from gradients")
            slopes = torch.autograd.grad(total, leaves, materialize_grads=True)
        flat = torch.cat([s.flatten() for s in slopes])
        picked = len(subject.reshape.to_spatial(output).flatten())
        ensure(
            bool(((flat == 0) | (flat == 1)).all()) and int(flat.sum()) == picked,
            f"{_shape(output)}: the picture's gradient is not a selection",
        )


@SUITE.check(
    "tokens on a known grid become that grid",
    unless=lambda s: "outputs were given" if s.given else "",
)
def known_layouts(subject: ReshapeSubject) -> None:
    """Square grids behind 0, 1, 2 or 5 other tokens; what is refused is not judged."""
    for name, tokens, wanted in token_layouts():
        try:
            found = subject.reshape.to_spatial(tokens)
        except (CamkitError, RuntimeError, ValueError):
            continue
        if found.ndim != wanted.ndim:
            continue  # one axis of places is another reading, and an honest one
        ensure(
            found.shape == wanted.shape and torch.equal(found, wanted),
            f"{name}: the picture is not the grid; prefix tokens are kept, or positions are lost",
        )


@SUITE.check("an output without places is refused with LayoutError")
def vectors(subject: ReshapeSubject) -> None:
    """`[N, C]`: nothing to spread over a picture."""
    try:
        found = subject.reshape.to_spatial(torch.ones(2, 3, dtype=torch.float64))
    except LayoutError:
        return
    except Exception as error:
        fail(f"one vector per image raises {type(error).__name__}; raise LayoutError and say why")
    ensure(found.ndim < 3, "one vector per image became a picture")


def _refilled(output: Any, leaves: list[Tensor]) -> Any:
    rest = iter(leaves)
    return map_tensors(lambda t: next(rest) if t.is_floating_point() else t, output)


def _shape(output: Any) -> str:
    return str([list(t.shape) for t in floating(output)]) if floating(output) else repr(output)
