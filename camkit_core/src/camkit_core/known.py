"""Names the first-party packages offer, so that a failed lookup can say what to install."""

from __future__ import annotations

_GRADIENT = (
    "cam gradcam gradcampp xgradcam hirescam gradcamelementwise layercam shapleycam segeigencam "
    "eigengradcam ssgradcam eigencam kpcacam fem lafam dummycam fakecam random gaussian sobel"
)

KNOWN: dict[str, dict[str, str]] = {
    "method": dict.fromkeys(_GRADIENT.split(), "gradient"),
    "target": dict.fromkeys(["probability", "log_probability", "margin", "rest"], "tasks"),
    "reshape": dict.fromkeys(["tokens", "channels_last"], "tasks"),
    "renderer": dict.fromkeys(["overlay", "heatmap", "grid"], "render"),
    "writer": dict.fromkeys(["png", "npz", "safetensors", "json"], "render"),
    "command": {"demo": "playground"},
    "model family": dict.fromkeys(["torchvision", "file"], "tasks"),
}
"""kind -> name -> the extra of `camkit` that brings it."""
