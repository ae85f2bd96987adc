"""The hooks a plugin may implement. Importing this imports pluggy only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from camkit_core.entries import Entry

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from camkit_core.protocols import LoadedModel, Reshape, Target, TargetContext

PROJECT = "camkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """Namespace of all hooks; an implementation may take fewer arguments, never others."""

    @hookspec
    def camkit_entries(self) -> Iterable[Entry]:
        """Everything the plugin offers. Pure and cheap: no torch, no numpy, no file access."""
        raise AssertionError("a specification is never called")

    @hookspec(firstresult=True)
    def camkit_load_model(self, spec: str) -> LoadedModel | None:
        """Model for a spec such as `torchvision:resnet50@none`, or None if not ours."""

    @hookspec(firstresult=True)
    def camkit_open_photo(self, spec: str) -> Image | None:
        """RGB picture for a spec such as `duo:7` that is no file, or None if not ours."""

    @hookspec(firstresult=True)
    def camkit_reshape_for(
        self, model: nn.Module, layer_name: str, layer: nn.Module, output: Any, image: Tensor
    ) -> Reshape | None:
        """How the output of `layer` becomes `[N, C, *S]`, or None if not known."""

    @hookspec(firstresult=True)
    def camkit_target_for(self, request: Any, output: Any, context: TargetContext) -> Target | None:
        """Target for a user's request on the clean output, or None if not ours.

        Requests are what core does not understand itself: words, and on outputs without class
        scores also class indices, and `"pred"` or `"pred:R"` for the model's answer of rank R.
        """

    @hookspec(firstresult=True)
    def camkit_default_layer(self, model: nn.Module, image: Tensor) -> str | None:
        """Name of the layer to explain by default, or None to let camkit probe."""
