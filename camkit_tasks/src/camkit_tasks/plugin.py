"""What camkit_tasks offers. Imports neither torch nor pydantic; the hooks do when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from camkit_core import Entry, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from camkit_core import LoadedModel, Reshape, Target, TargetContext


@hookimpl
def camkit_entries() -> list[Entry]:
    """Targets, reshapes and model families of this package."""
    return [
        Entry(
            kind="target",
            name="logit",
            ref="camkit_core:ClassTarget",
            summary="CLASS | logit:CLASS: the logit of a class (index, name, WordNet id, pred)",
        ),
        Entry(
            kind="target",
            name="probability",
            ref="camkit_tasks.targets.scores:Probability",
            summary="probability:CLASS: softmax (multi-label: sigmoid) probability of a class",
        ),
        Entry(
            kind="target",
            name="log_probability",
            ref="camkit_tasks.targets.scores:LogProbability",
            summary="log_probability:CLASS: log of the probability of a class",
        ),
        Entry(
            kind="target",
            name="margin",
            ref="camkit_tasks.targets.scores:Margin",
            summary="margin:CLASS: logit of a class minus that of its strongest rival",
        ),
        Entry(
            kind="target",
            name="rest",
            ref="camkit_tasks.targets.scores:Rest",
            summary="rest:CLASS: logit plus log-probability of a class (ReST, for Shapley-CAM)",
        ),
        Entry(
            kind="target",
            name="counterfactual",
            ref="camkit_tasks.targets.scores:Counterfactual",
            summary="counterfactual:CLASS: what speaks against a class",
        ),
        Entry(
            kind="target",
            name="finer",
            ref="camkit_tasks.targets.contrast:Finer",
            summary="A-vs-B,C | finer:CLASS: a class against similar ones (Finer-CAM)",
        ),
        Entry(
            kind="target",
            name="labels",
            ref="camkit_tasks.targets.several:Labels",
            summary="labels:A,B: sum of several logits; without classes, those that are positive",
        ),
        Entry(
            kind="target",
            name="binary",
            ref="camkit_tasks.targets.values:Binary",
            summary="binary[:positive | :negative]: the one logit of a yes-or-no model",
        ),
        Entry(
            kind="target",
            name="value",
            ref="camkit_tasks.targets.values:Value",
            summary="value:K[,at=V]: output K of a regression, or its closeness to V",
        ),
        Entry(
            kind="target",
            name="raw",
            ref="camkit_tasks.targets.values:Raw",
            summary="raw:I,J,...: one number of the raw output",
        ),
        Entry(
            kind="target",
            name="mask",
            ref="camkit_tasks.targets.dense_targets:ClassMask",
            summary="CLASS | mask:CLASS: a class where a segmentation predicts it",
        ),
        Entry(
            kind="target",
            name="region",
            ref="camkit_tasks.targets.dense_targets:Region",
            summary="region:FILE[,class=CLASS]: a class in a painted region of a dense output",
        ),
        Entry(
            kind="target",
            name="pixel",
            ref="camkit_tasks.targets.dense_targets:Pixel",
            summary="pixel:X,Y[,class=CLASS]: a class at one pixel of a dense output",
        ),
        Entry(
            kind="target",
            name="like",
            ref="camkit_tasks.targets.similarity:Similarity",
            summary="like:PHOTO[-vs-PHOTO], like_dot, like_l2, unlike, like:self: of embeddings",
        ),
        Entry(
            kind="target",
            name="text",
            ref="camkit_tasks.targets.similarity:Similarity",
            summary="text:a dog | text:a dog-vs-a cat: similarity of image and text (CLIP, SigLIP)",
        ),
        Entry(
            kind="target",
            name="box",
            ref="camkit_tasks.targets.detection_targets:Box",
            summary="box:R | box:LABEL[:R] | box:LABEL@x0,y0,x1,y1, then .PART: a detection",
        ),
        Entry(
            kind="target",
            name="prediction",
            ref="camkit_tasks.targets.detection_targets:Prediction",
            summary="prediction:I[:LABEL], then .PART: one prediction of a detector before NMS",
        ),
        Entry(
            kind="reshape",
            name="fpn",
            ref="camkit_tasks.reshapes.fpn:FPN",
            summary="dictionaries of maps: all levels of a feature pyramid on one grid, or one",
        ),
        Entry(
            kind="reshape",
            name="tokens",
            ref="camkit_tasks.reshapes.tokens:Tokens",
            summary="[N, T, C]: class and register tokens, then a grid (vision transformers)",
        ),
        Entry(
            kind="reshape",
            name="windows",
            ref="camkit_tasks.reshapes.windows:Windows",
            summary="[N x windows, positions, C]: inside Swin-type blocks; patches of MobileViTv2",
        ),
        Entry(
            kind="reshape",
            name="channels_last",
            ref="camkit_core:ChannelsLast",
            summary="[N, *S, C]: window transformers",
        ),
        Entry(
            kind="model family",
            name="torchvision",
            ref="camkit_tasks.loaders.torchvision_models:load",
            summary="torchvision:NAME[@none | @DEFAULT | @WEIGHTS | @file.safetensors | @file.pth]",
        ),
        Entry(
            kind="model family",
            name="timm",
            ref="camkit_tasks.loaders.timm_models:load",
            summary="timm:NAME[@none | @TAG | @file.safetensors | @file.pth]",
        ),
        Entry(
            kind="model family",
            name="hf",
            ref="camkit_tasks.loaders.hf_models:load",
            summary="hf:FOLDER_OR_NAME[#TASK][@none | @file.safetensors] (transformers)",
        ),
        Entry(
            kind="model family",
            name="file",
            ref="camkit_tasks.loaders.factory:load",
            summary="file.py:factory or package.module:factory",
        ),
    ]


@hookimpl
def camkit_load_model(spec: str) -> LoadedModel | None:
    """Models of torchvision, timm and transformers, and of the user's own code."""
    if spec.startswith("torchvision:"):
        from camkit_tasks.loaders import torchvision_models

        return torchvision_models.load(spec)
    if spec.startswith("timm:"):
        from camkit_tasks.loaders import timm_models

        return timm_models.load(spec)
    if spec.startswith("hf:"):
        from camkit_tasks.loaders import hf_models

        return hf_models.load(spec)
    from camkit_tasks.loaders import factory

    return factory.load(spec)


@hookimpl
def camkit_reshape_for(
    model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
) -> Reshape | None:
    """Tokens, windows, channel-last maps, feature pyramids."""
    from camkit_tasks.reshapes.find import find_reshape
    from camkit_tasks.reshapes.fpn import FPN, is_pyramid

    if is_pyramid(output, image):
        return FPN()
    return find_reshape(model, layer_name, layer, output, image)


@hookimpl
def camkit_target_for(request: Any, output: Any, context: TargetContext) -> Target | None:
    """`"margin"`, `"281-vs-282"`, `"pixel:12,40"`: this package's targets by their words."""
    from camkit_tasks.targets.grammar import target_from_words

    return target_from_words(request, output, context)


@hookimpl
def camkit_default_layer(model: nn.Module, image: Tensor) -> str | None:
    """The layer to explain in detectors, and in transformers that answer from a class token."""
    from camkit_tasks import default_detection
    from camkit_tasks.default_layer import default_layer

    return default_detection.default_layer(model) or default_layer(model)
