"""What camkit_tasks offers. Imports neither torch nor pydantic; the hooks do when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from camkit_core import Entry, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from camkit_core import LoadedModel, Reshape, Target

_TARGETS = "camkit_tasks.targets.scores"


@hookimpl
def camkit_entries() -> list[Entry]:
    """Targets, reshapes and model families of this package."""
    return [
        Entry(
            kind="target",
            name="probability",
            ref=f"{_TARGETS}:Probability",
            summary="Softmax probability of a class",
        ),
        Entry(
            kind="target",
            name="log_probability",
            ref=f"{_TARGETS}:LogProbability",
            summary="Log of the softmax probability of a class",
        ),
        Entry(
            kind="target",
            name="margin",
            ref=f"{_TARGETS}:Margin",
            summary="Logit of a class minus that of its strongest rival",
        ),
        Entry(
            kind="target",
            name="rest",
            ref=f"{_TARGETS}:Rest",
            summary="Logit plus log-probability of a class (ReST, for Shapley-CAM)",
        ),
        Entry(
            kind="reshape",
            name="tokens",
            ref="camkit_tasks.reshapes.tokens:Tokens",
            summary="[N, T, C]: class and register tokens, then a grid (vision transformers)",
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
            name="file",
            ref="camkit_tasks.loaders.factory:load",
            summary="file.py:factory or package.module:factory",
        ),
    ]


@hookimpl
def camkit_load_model(spec: str) -> LoadedModel | None:
    """Models of torchvision, and of the user's own code."""
    if spec.startswith("torchvision:"):
        from camkit_tasks.loaders import torchvision_models

        return torchvision_models.load(spec)
    from camkit_tasks.loaders import factory

    return factory.load(spec)


@hookimpl
def camkit_reshape_for(
    model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
) -> Reshape | None:
    """Tokens and channel-last maps of vision and window transformers."""
    from camkit_tasks.reshapes.find import find_reshape

    return find_reshape(model, layer_name, layer, output, image)


@hookimpl
def camkit_target_for(request: Any, output: Any) -> Target | None:
    """`"margin"`, `"probability:281"`: this package's targets by name."""
    from camkit_tasks.targets.words import target_from_words

    return target_from_words(request) if isinstance(request, str) else None


@hookimpl
def camkit_default_layer(model: nn.Module, image: Tensor) -> str | None:
    """The layer to explain in a vision transformer that reads its answer from a class token."""
    from camkit_tasks.default_layer import default_layer

    return default_layer(model)
