"""Names the first-party packages offer, so that a failed lookup can say what to install."""

from __future__ import annotations

_GRADIENT = (
    "cam gradcam gradcampp xgradcam hirescam gradcamelementwise layercam shapleycam segeigencam "
    "eigengradcam ssgradcam eigencam kpcacam fem lafam dummycam fakecam random gaussian sobel "
    "rollout chefer legrad gradeclip attcat"
)

_PERTURBATION = (
    "ablationcam channelshapley clustercam cosinecam drise groupcam gscorecam iscam kernelshap "
    "liftcam lime occlusion opticam polycam polygradcam reciprocam rise scorecam sscam "
    "vitreciprocam"
)

_TARGETS = (
    "binary box counterfactual finer labels like log_probability logit margin mask pixel "
    "prediction probability raw region rest text value"
)

KNOWN: dict[str, dict[str, str]] = {
    "method": dict.fromkeys(_GRADIENT.split(), "gradient")
    | dict.fromkeys(_PERTURBATION.split(), "perturbation"),
    "target": dict.fromkeys(_TARGETS.split(), "tasks"),
    "reshape": dict.fromkeys(["tokens", "windows", "channels_last", "fpn"], "tasks"),
    "metric": dict.fromkeys(
        ["contrast", "energy", "gridpg", "iou", "pointing", "rankaccuracy"], "metrics"
    ),
    "control": dict.fromkeys(["center", "oracle", "random", "sobel"], "metrics"),
    "renderer": dict.fromkeys(["overlay", "heatmap", "grid"], "render"),
    "writer": dict.fromkeys(["png", "npz", "safetensors", "json"], "render"),
    "command": {"demo": "playground"},
    "model family": dict.fromkeys(["torchvision", "timm", "hf", "file"], "tasks")
    | {"demo": "playground"},
}
"""kind -> name -> the extra of `camkit` that brings it."""

OWNER = {
    "gradient": "camkit-methods-gradient",
    "perturbation": "camkit-methods-perturbation",
    **{extra: f"camkit-{extra}" for extra in ("tasks", "metrics", "render", "playground")},
}
"""extra -> the distribution it installs."""
