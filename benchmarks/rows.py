"""What is measured: one record per row of the table, and the cost curves made of such rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

SEVEN = ("gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam")
EVERYBODY = ("camkit", "grad-cam", "torchcam", "torchcam-shared", "captum")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One workload, and what it may cost.

    Attributes:
        model: name of a torchvision classification network.
        layer: dotted name of the explained layer.
        tokens: how that layer lays out its output: "" (`[N, C, H, W]`), "cls" (`[N, 1 + H*W, C]`)
            or "nhwc" (`[N, H, W, C]`).
        targets: 1 explains the model's answer, K the classes 0 to K - 1.
        goal: upper limit aimed at, in plain forwards of the same model and batch.
        limit: upper limit that must hold; the goal if not given.
        memory_goal: upper limit of peak memory over the plain forward's, in MiB.
        measures: "time" and "memory"; passes are counted in any case.
        sample: peers that run once per target are timed on this many targets, and the time is
            multiplied; such figures are marked.
        contenders: who takes part.
        curve: axis and value, if the row is a point of a curve.
    """

    name: str
    title: str
    model: str
    layer: str
    tokens: str = ""
    batch: int = 1
    size: int = 224
    methods: tuple[str, ...] = ("gradcam",)
    targets: int = 1
    goal: float | None = None
    limit: float | None = None
    memory_goal: float | None = None
    measures: tuple[str, ...] = ("time", "memory")
    sample: int | None = None
    contenders: tuple[str, ...] = EVERYBODY
    curve: tuple[str, int] | None = None


_RESNET = Row(
    name="gradcam-resnet50-b1",
    title="Grad-CAM, ResNet-50 last block, batch 1",
    model="resnet50",
    layer="layer4.2",
    goal=1.03,
    limit=1.05,
)

TABLE: tuple[Row, ...] = (
    _RESNET,
    replace(
        _RESNET,
        name="gradcam-resnet50-b8",
        title="Grad-CAM, ResNet-50 last block, batch 8",
        batch=8,
    ),
    Row(
        name="gradcam-vgg16",
        title="Grad-CAM, VGG-16 last convolution",
        model="vgg16",
        layer="features.29",
        goal=1.15,
    ),
    Row(
        name="gradcam-vit",
        title="Grad-CAM, ViT-B/16 last block",
        model="vit_b_16",
        layer="encoder.layers.encoder_layer_11.ln_1",
        tokens="cls",
        goal=1.12,
    ),
    Row(
        name="gradcam-swin",
        title="Grad-CAM, Swin-T last block",
        model="swin_t",
        layer="features.7.1.norm1",
        tokens="nhwc",
        goal=1.12,
    ),
    replace(
        _RESNET,
        name="seven-resnet50",
        title="Seven gradient methods, ResNet-50",
        methods=SEVEN,
        goal=1.10,
        limit=1.15,
    ),
    replace(
        _RESNET,
        name="classes100-resnet50",
        title="Grad-CAM of 100 classes, ResNet-50",
        targets=100,
        sample=5,
        goal=1.3,
        limit=None,
    ),
    replace(
        _RESNET,
        name="gradcam-layer1",
        title="Grad-CAM at layer1, ResNet-50",
        layer="layer1",
        goal=2.2,
        limit=None,
    ),
    replace(
        _RESNET,
        name="eigencam-resnet50",
        title="Eigen-CAM, ResNet-50",
        methods=("eigencam",),
        goal=1.06,
        limit=1.10,
    ),
    replace(
        _RESNET,
        name="memory-resnet50-b8",
        title="Peak memory, Grad-CAM, ResNet-50, batch 8",
        batch=8,
        goal=None,
        limit=None,
        memory_goal=10.0,
        measures=("memory",),
    ),
    Row(
        name="gradcam-mobilenet",
        title="Grad-CAM, MobileNetV3-L last block",
        model="mobilenet_v3_large",
        layer="features.16",
    ),
)


def _curve(axis: str, values: Iterable[int], **shared: object) -> list[Row]:
    """Rows that differ in one number; `methods` takes the first so many of the seven."""
    rows = []
    for value in values:
        changed = {axis: SEVEN[:value] if axis == "methods" else value}
        rows.append(
            replace(
                _RESNET,
                name=f"curve-{axis}-{value}",
                title=f"ResNet-50, {axis} = {value}",
                goal=None,
                limit=None,
                measures=("time",),
                contenders=("camkit", "grad-cam"),
                curve=(axis, value),
                **(shared | changed),  # type: ignore[arg-type]
            )
        )
    return rows


CURVES: tuple[Row, ...] = (
    *_curve("batch", (1, 2, 4, 8, 16)),
    *_curve("size", (128, 224, 320, 448)),
    *_curve("targets", (1, 3, 10, 30, 100), sample=3),
    *_curve("methods", (1, 2, 3, 4, 5, 6, 7)),
)


def choose(names: str | None, *, quick: bool = False) -> list[Row]:
    """Rows by name; a prefix that ends in `*` takes all that begin so.

    Raises:
        ValueError: no row has such a name.
    """
    known = [*TABLE, *CURVES]
    if not names:
        return list(TABLE) if quick else known
    chosen: list[Row] = []
    for name in names.split(","):
        fits = [row for row in known if row.name == name or _begins(row.name, name)]
        if not fits:
            raise ValueError(f"no row is called {name!r}; see --list")
        chosen += [row for row in fits if row not in chosen]
    return chosen


def _begins(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])
