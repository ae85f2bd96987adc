"""Sizes, precision and devices."""

from __future__ import annotations

import copy
import math

import torch

from camkit_core.testing.judge import ensure, equal, live, spearman
from camkit_core.testing.networks import images
from camkit_core.testing.subject import Subject, own_engine
from camkit_core.testing.suite import Suite

SUITE: Suite[Subject] = Suite("method")

SHAPES = [(1, 7), (7, 1), (2, 3), (9, 11), (16, 5), (13, 13)]


@SUITE.check("float32 agrees with float64 (1e-4)")
def single_precision(subject: Subject) -> None:
    """Rounding only."""
    net, x = subject.net(), images(2)
    single = subject.raw(copy.deepcopy(net).float(), x.float())
    ensure(
        single.dtype == torch.float32 or single.dtype == torch.float64,
        f"a float32 model gives a {single.dtype} map",
    )
    equal(
        single,
        subject.raw(net, x),
        "float32 and float64; a fixed dtype, or a formula that loses digits",
        1e-4,
    )


@SUITE.check("an empty batch gives an empty map", unless=own_engine)
def empty_batch(subject: Subject) -> None:
    """N = 0."""
    raw = subject.raw(subject.net(), images(0), 1)
    ensure(len(raw) == 0, f"0 images give {len(raw)} maps")


@SUITE.check("odd, thin and tall pictures, 1 and 5 images", tier="full")
def sizes(subject: Subject) -> None:
    """Finite maps of the right shape, equal to those of the images alone."""
    for size in SHAPES:
        for n in (1, 5):
            net, x = subject.net(), images(n, size=size)
            raw = subject.raw(net, x)
            ensure(
                bool(torch.isfinite(raw).all()) and len(raw) == n,
                f"{n} images of {size}: map {list(raw.shape)}, or not finite",
            )
            if math.prod(size) >= 40:
                live(raw, f"the map of {n} images of {size}")


@SUITE.check("half precision keeps the order of positions (Spearman >= 0.98)", tier="full")
def half_precision(subject: Subject) -> None:
    """bfloat16 on the CPU, against float32 of the rounded weights and images."""
    net, x = subject.net(stride=2), images(2, size=(25, 31))
    low = copy.deepcopy(net).bfloat16()
    rounded = x.bfloat16()
    found = subject.raw(low, rounded)
    wanted = subject.raw(copy.deepcopy(low).double(), rounded.double())
    for row in range(2):
        agreement = spearman(found[row].double(), wanted[row])
        ensure(
            agreement >= 0.98,
            f"bfloat16: rank correlation {agreement:.3f} with float64 for image {row}, expected "
            "0.98; compute in float32 or better, as the capture's tensors are",
        )


def _no_accelerator(subject: Subject) -> str:
    return "" if torch.cuda.is_available() else "there is no CUDA device"


@SUITE.check("the accelerator agrees with the CPU (1e-4)", tier="full", unless=_no_accelerator)
def device(subject: Subject) -> None:
    """float32 without TF32."""
    net, x = subject.net().float(), images(2).float()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        there = subject.raw(copy.deepcopy(net).cuda(), x.cuda())
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    ensure(there.is_cuda, f"images on the accelerator give a map on {there.device}")
    equal(there.cpu(), subject.raw(net, x), "the accelerator and the CPU", 1e-4)
