"""How each library is asked for the same maps, the way its own documentation does it.

Every call includes what its user has to write each time: building the extractor, removing its
hooks, resizing to the image. A peer that computes one map per call is called once per map.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.scenes import Scene

Key = tuple[str, int]
Maps = dict[Key, Any]
Work = Callable[[], Maps]


@dataclass(frozen=True)
class Contender:
    """A library as a competitor.

    Attributes:
        distribution: what to install for it.
        methods: our name of a method -> its own.
        call: `(scene, methods, positions of targets) -> maps`.
        per_target: runs anew for every target, so a sample of them tells its cost.
        tokens: understands layers that do not return `[N, C, H, W]`.
    """

    distribution: str
    methods: Mapping[str, str]
    call: Callable[[Scene, Sequence[str], Sequence[int]], Maps]
    per_target: bool = True
    tokens: bool = True
    only_many: bool = False

    @property
    def version(self) -> str | None:
        """Installed version, None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def unfit(self, scene: Scene) -> str:
        """Why it does not take part, or nothing."""
        if self.version is None:
            return "not installed"
        if not self.supported(scene.row.methods):
            return "has none of the methods"
        if scene.reshape is not None and not self.tokens:
            return "cannot read this layer's layout"
        if self.only_many and scene.row.targets == 1:
            return "only for many targets"
        return ""

    def supported(self, methods: Sequence[str]) -> list[str]:
        """The methods it has."""
        return [method for method in methods if method in self.methods]

    def work(self, scene: Scene) -> tuple[Work, float]:
        """The timed call, and by how much its time is to be multiplied."""
        row = scene.row
        count = row.sample if self.per_target and row.sample else row.targets
        methods = self.supported(row.methods)
        return partial(self.call, scene, methods, range(count)), row.targets / count


def camkit(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> Maps:
    """One call for everything."""
    return {key: found.maps for key, found in explanations(scene, methods, targets).items()}


def explanations(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> dict[Key, Any]:
    """What camkit explains, for the layer as named in the row."""
    import camkit

    row = scene.row
    if len(methods) == 1 and row.targets == 1:
        return {
            (methods[0], 0): camkit.explain(scene.model, scene.images, methods[0], layers=row.layer)
        }
    wanted = list(targets) if row.targets > 1 else None
    found = camkit.compare(scene.model, scene.images, list(methods), wanted, layers=row.layer)
    return dict(found)


def gradcam(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> Maps:
    """pytorch-grad-cam: one call per method and target."""
    library = importlib.import_module("pytorch_grad_cam")
    target_of = importlib.import_module(
        "pytorch_grad_cam.utils.model_targets"
    ).ClassifierOutputTarget
    maps: Maps = {}
    for method in methods:
        kind = getattr(library, GRADCAM.methods[method])
        for target in targets:
            chosen = [target_of(target)] * len(scene.images) if scene.row.targets > 1 else None
            with kind(
                model=scene.model, target_layers=[scene.layer], reshape_transform=scene.reshape
            ) as cam:
                maps[method, target] = cam(input_tensor=scene.images, targets=chosen)
    return maps


def torchcam(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> Maps:
    """torchcam: one forward and one call per method and target, resized as its users do."""
    library = importlib.import_module("torchcam.methods")
    maps: Maps = {}
    for method in methods:
        kind = getattr(library, TORCHCAM.methods[method])
        for target in targets:
            with kind(scene.model, scene.row.layer, reshape_transform=scene.reshape) as extractor:
                scores = scene.model(scene.images)
                maps[method, target] = _resized(
                    extractor(_classes(scene, scores, target), scores)[0], scene
                )
    return maps


def torchcam_shared(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> Maps:
    """The graph is retained: one forward per method for all targets."""
    library = importlib.import_module("torchcam.methods")
    maps: Maps = {}
    for method in methods:
        kind = getattr(library, TORCHCAM.methods[method])
        with kind(scene.model, scene.row.layer, reshape_transform=scene.reshape) as extractor:
            scores = scene.model(scene.images)
            for target in targets:
                found = extractor(_classes(scene, scores, target), scores, retain_graph=True)
                maps[method, target] = _resized(found[0], scene)
    return maps


def _classes(scene: Scene, scores: Tensor, target: int) -> int | list[int]:
    if scene.row.targets > 1:
        return target
    answer: list[int] = scores.argmax(1).tolist()
    return answer


def captum(scene: Scene, methods: Sequence[str], targets: Sequence[int]) -> Maps:
    """captum: it is told the class, since it does not look for the model's answer."""
    library = importlib.import_module("captum.attr")
    maps: Maps = {}
    for target in targets:
        classes = target if scene.row.targets > 1 else scene.classes
        found = library.LayerGradCam(scene.model, scene.layer).attribute(
            scene.images, target=classes, relu_attributions=True
        )
        maps["gradcam", target] = library.LayerAttribution.interpolate(
            found, scene.size, interpolate_mode="bilinear"
        )[:, 0]
    return maps


def _resized(maps: Tensor, scene: Scene) -> Tensor:
    return interpolate(maps[:, None], scene.size, mode="bilinear", align_corners=False)[:, 0]


GRADCAM = Contender(
    "grad-cam",
    {
        "gradcam": "GradCAM",
        "gradcampp": "GradCAMPlusPlus",
        "xgradcam": "XGradCAM",
        "hirescam": "HiResCAM",
        "layercam": "LayerCAM",
        "eigencam": "EigenCAM",
        "eigengradcam": "EigenGradCAM",
    },
    gradcam,
)
TORCHCAM = Contender(
    "torchcam",
    {
        "gradcam": "GradCAM",
        "gradcampp": "GradCAMpp",
        "xgradcam": "XGradCAM",
        "layercam": "LayerCAM",
    },
    torchcam,
)
CONTENDERS: dict[str, Contender] = {
    "camkit": Contender(
        "camkit", {name: name for name in GRADCAM.methods}, camkit, per_target=False
    ),
    "grad-cam": GRADCAM,
    "torchcam": TORCHCAM,
    "torchcam-shared": Contender(
        "torchcam", TORCHCAM.methods, torchcam_shared, per_target=False, only_many=True
    ),
    "captum": Contender("captum", {"gradcam": "LayerGradCam"}, captum, tokens=False),
}
