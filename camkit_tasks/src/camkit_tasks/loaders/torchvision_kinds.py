"""What differs between torchvision's classification, segmentation and video networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from camkit_core import Preprocess
from camkit_tasks.photos.clips import ClipPreprocess
from camkit_tasks.photos.preprocess import ImagePreprocess
from camkit_tasks.photos.transforms import from_torchvision
from camkit_tasks.torchvision_import import import_torchvision

Kind = Literal["classification", "segmentation", "video"]

INCEPTIONS = ("googlenet", "inception_v3")
_CLIP = 16
_MODULES: dict[Kind, str] = {
    "classification": "models",
    "segmentation": "models.segmentation",
    "video": "models.video",
}


def known_names() -> dict[str, Kind]:
    """Every network that can be loaded, and its kind."""
    models = import_torchvision("models")
    return {
        name: kind
        for kind, module in _MODULES.items()
        for name in models.list_models(module=import_torchvision(module))
    }


def random_options(name: str, kind: Kind) -> dict[str, Any]:
    """What the builder must be told so that it draws weights quietly and downloads none."""
    if kind == "segmentation":
        return {"weights_backbone": None}
    return {"init_weights": True} if name in INCEPTIONS else {}


def options_for(name: str, kind: Kind, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the builder must be told to get the network a file was saved from."""
    auxiliary = any(key.lower().startswith("aux") for key in state)
    if kind == "segmentation":
        quiet: dict[str, Any] = {"weights_backbone": None}
        return quiet if name.startswith("lraspp") else {**quiet, "aux_loss": auxiliary}
    if name in INCEPTIONS:
        return {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return {}
    side = round(max(positions.shape[1] - 1, 1) ** 0.5)
    return {"image_size": side * patches.shape[-1]}


def last_layer(model: nn.Module, kind: Kind) -> tuple[str, nn.Module]:
    """The layer that returns the logits: linear, or a convolution in dense networks, SqueezeNet."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        and not name.startswith("aux_classifier")
    ]
    linear = [(name, module) for name, module in layers if isinstance(module, nn.Linear)]
    return layers[-1] if kind == "segmentation" or not linear else linear[-1]


def preprocess_of(published: Any, kind: Kind) -> Preprocess:
    """Preprocessing that goes with published weights."""
    preset = published.transforms()
    if kind == "segmentation":
        return ImagePreprocess(
            resize=preset.resize_size[0],
            crop=None,
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )
    if kind == "video":
        return _clip(published, preset)
    return from_torchvision(preset)


def _clip(published: Any, preset: Any) -> ClipPreprocess:
    size = preset.resize_size
    frame = ImagePreprocess(
        resize=size[0] if len(size) == 1 else tuple(size),
        crop=tuple(preset.crop_size),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        resize_on="bytes",
        antialias=False,
    )
    # Position codes of fixed length are the only reason for a minimum that is the clip's length.
    fewest = published.meta.get("min_temporal_size", 1)
    return ClipPreprocess(frame=frame, frames=_CLIP, exactly=fewest == _CLIP)
