"""`python -m benchmarks.perturbation`: methods that run the model again, in plain forwards.

Every row is one `explain` of one image, timed between plain forwards of the same model and image
in the same process. `--peers` adds grad-cam's Ablation-CAM and Score-CAM, which take minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.environment import environment

Call = Callable[[], Any]
FORWARDS = 9


@dataclass(frozen=True, kw_only=True)
class Row:
    """One workload.

    Attributes:
        method: what camkit is asked for.
        goal: upper limit in plain forwards; of each mask where `masks` is given.
        masks: images that are scored: the cost is divided by it.
        certificate: whether closed forms are allowed.
        precision: camkit's word.
        reshape: how the layer is read.
        peer: class of grad-cam that computes the same.
    """

    name: str
    title: str
    model: str
    layer: str
    method: str = "ablationcam"
    goal: float | None = None
    masks: int = 1
    certificate: bool = True
    precision: str = "exact"
    reshape: str | None = None
    peer: str = "AblationCAM"


_LAST = {"model": "resnet50", "layer": "layer4.2"}
_ABLATION = "Ablation-CAM, ResNet-50 last block, 2,048 channels"
ROWS = (
    Row(name="ablation-resnet50-closed", title=f"{_ABLATION}, certified", goal=1.15, **_LAST),
    Row(
        name="ablation-resnet50-tail",
        title=f"{_ABLATION}, certificate off",
        goal=6.0,
        certificate=False,
        **_LAST,
    ),
    Row(
        name="ablation-vgg16",
        title="Ablation-CAM, VGG-16 last convolution, 512 channels",
        model="vgg16",
        layer="features.28",
        goal=6.0,
    ),
    Row(
        name="ablation-vit",
        title="Ablation-CAM, ViT-B/16 last block, 768 channels",
        model="vit_b_16",
        layer="encoder.layers.encoder_layer_11.ln_1",
        reshape="tokens:prefix=1",
        goal=60.0,
    ),
    Row(
        name="recipro-resnet50",
        title="Recipro-CAM, ResNet-50 last block, 49 places, certificate off",
        method="reciprocam",
        certificate=False,
        **_LAST,
    ),
    Row(
        name="score-resnet18",
        title="Score-CAM, ResNet-18, 512 masks, per mask",
        model="resnet18",
        layer="layer4",
        method="scorecam",
        masks=512,
        goal=0.75,
        peer="ScoreCAM",
    ),
    Row(
        name="score-resnet18-fast",
        title="Score-CAM, ResNet-18, 512 masks, per mask, precision fast",
        model="resnet18",
        layer="layer4",
        method="scorecam",
        masks=512,
        precision="fast",
        peer="ScoreCAM",
    ),
    Row(
        name="score-resnet50",
        title="Score-CAM, ResNet-50, 2,048 masks, per mask",
        method="scorecam",
        masks=2048,
        goal=0.75,
        peer="ScoreCAM",
        **_LAST,
    ),
    Row(
        name="score-resnet50-fast",
        title="Score-CAM, ResNet-50, 2,048 masks, per mask, precision fast",
        method="scorecam",
        masks=2048,
        precision="fast",
        peer="ScoreCAM",
        **_LAST,
    ),
)


@dataclass
class Measured:
    """What a row took, in forwards (per mask where the row has masks)."""

    row: Row
    cost: float
    spread: tuple[float, float]
    forward: float
    notes: list[str] = field(default_factory=list)
    peer: float | None = None


def build(row: Row) -> tuple[nn.Module, Tensor]:
    """Seeded network and image."""
    torchvision = importlib.import_module("torchvision")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.get_model(row.model, weights=None).eval()
        return net, torch.randn(1, 3, 224, 224)


def ours(row: Row, net: nn.Module, image: Tensor) -> Any:
    """One call of camkit."""
    import camkit
    from camkit_core.affine import without_certificate

    words: dict[str, Any] = {"reshape": row.reshape} if row.reshape else {}
    with nullcontext() if row.certificate else without_certificate():
        return camkit.explain(
            net, image, row.method, layers=row.layer, precision=row.precision, **words
        )


def theirs(row: Row, net: nn.Module, image: Tensor) -> Any:
    """One call of grad-cam."""
    library = importlib.import_module("pytorch_grad_cam")
    words: dict[str, Any] = {}
    if row.reshape:
        tokens = importlib.import_module("pytorch_grad_cam.ablation_layer").AblationLayerVit
        words = {"reshape_transform": _grid, "ablation_layer": tokens()}
    layers = [net.get_submodule(row.layer)]
    # Not `with`: leaving its block swallows errors.
    cam = getattr(library, row.peer)(model=net, target_layers=layers, **words)
    try:
        return cam(input_tensor=image, targets=None)
    finally:
        cam.activations_and_grads.release()


def _grid(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14))


def clocked(call: Call, clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    start = clock()
    call()
    return clock() - start


def forwards(net: nn.Module, image: Tensor, clock: Callable[[], float]) -> float:
    """Median seconds of a plain forward."""

    def plain() -> None:
        with torch.inference_mode():
            net(image)

    return statistics.median(clocked(plain, clock) for _ in range(FORWARDS))


def measure(row: Row, rounds: int, clock: Callable[[], float], *, peers: bool) -> Measured:
    """Warm once, then forwards and the call in turn."""
    net, image = build(row)
    forwards(net, image, clock)
    notes = list(ours(row, net, image).provenance.notes)
    ratios, units = [], []
    for _ in range(rounds):
        before = forwards(net, image, clock)
        took = clocked(lambda: ours(row, net, image), clock)
        units.append((before + forwards(net, image, clock)) / 2)
        ratios.append(took / units[-1] / row.masks)
    unit = statistics.median(units)
    peer = clocked(lambda: theirs(row, net, image), clock) / unit / row.masks if peers else None
    return Measured(row, statistics.median(ratios), (min(ratios), max(ratios)), unit, notes, peer)


def lines(measured: Sequence[Measured]) -> Iterator[str]:
    """The table."""
    yield "| row | goal | measured | smallest to largest | grad-cam | forward, ms |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in measured:
        goal = "" if one.row.goal is None else f"{one.row.goal:g}x"
        peer = "" if one.peer is None else f"{one.peer:.3g}x"
        low, high = one.spread
        yield (
            f"| {one.row.title} | {goal} | {one.cost:.3g}x | {low:.3g} to {high:.3g} | {peer} | "
            f"{1000 * one.forward:.0f} |"
        )
    yield from (f"\n{one.row.title}: {note}." for one in measured for note in one.notes)


def main(words: Sequence[str] | None = None) -> int:
    """Measure the chosen rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perturbation", description=__doc__)
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--peers", action="store_true", help="grad-cam too: minutes per row")
    parser.add_argument("--out", type=Path, help="JSON")
    asked = parser.parse_args(words)
    torch.set_num_threads(asked.threads)
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    done = []
    for row in (row for row in ROWS if row.name in asked.rows.split(",")):
        done.append(measure(row, asked.rounds, clock, peers=asked.peers))
        print(f"{row.name}: {done[-1].cost:.3g}x of {1000 * done[-1].forward:.0f} ms", flush=True)
    print("\n".join(lines(done)))
    if asked.out:
        content = {"environment": environment("cpu"), "rows": [asdict(one) for one in done]}
        asked.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
