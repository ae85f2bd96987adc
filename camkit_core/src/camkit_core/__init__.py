"""Protocols, registry and capture engine of camkit. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "api": "Explainer compare explain",
    "capture": "Capture",
    "entries": "API Entry Paper PluginInfo Problem",
    "errors": "AmbiguousNameError BudgetError CamkitError CapabilityError CaptureError InputError "
    "LayerError LayoutError ModelError NonFiniteError OptionError PluginError TargetError "
    "UnknownNameError UnsafeFileError",
    "explanation": "INPUT Comparison Explanation Issue Provenance",
    "hookspecs": "hookimpl hookspec",
    "layouts": "ancestors_of makes_features output_channels picture_fit",
    "method": "MethodModel",
    "metric": "Interval MetricModel mean_interval",
    "need": "Claim Need",
    "options": "method_of",
    "outputs": "class_scores main_tensor select",
    "post": "DEFAULT_POST Post",
    "probe": "LayerReport probe_layers",
    "protocols": "Attention BiasTerm BoundTarget Control Evidence Geometry Head LayerGraph "
    "LoadedModel Method Metric Picture Prepared Preprocess Renderer Reshape Rows Runner Target "
    "TargetContext TargetInfo Truth Writer",
    "registry": "Registry default_registry near parse_spec",
    "reshapes": "ChannelsFirst ChannelsLast",
    "rows": "TensorRows",
    "targets": "CallableTarget ClassTarget PerImageTarget choose_classes",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(["__version__", *_MODULE])  # noqa: PLE0605

if TYPE_CHECKING:
    from camkit_core.api import Explainer as Explainer
    from camkit_core.api import compare as compare
    from camkit_core.api import explain as explain
    from camkit_core.capture import Capture as Capture
    from camkit_core.entries import API as API
    from camkit_core.entries import Entry as Entry
    from camkit_core.entries import Paper as Paper
    from camkit_core.entries import PluginInfo as PluginInfo
    from camkit_core.entries import Problem as Problem
    from camkit_core.errors import AmbiguousNameError as AmbiguousNameError
    from camkit_core.errors import BudgetError as BudgetError
    from camkit_core.errors import CamkitError as CamkitError
    from camkit_core.errors import CapabilityError as CapabilityError
    from camkit_core.errors import CaptureError as CaptureError
    from camkit_core.errors import InputError as InputError
    from camkit_core.errors import LayerError as LayerError
    from camkit_core.errors import LayoutError as LayoutError
    from camkit_core.errors import ModelError as ModelError
    from camkit_core.errors import NonFiniteError as NonFiniteError
    from camkit_core.errors import OptionError as OptionError
    from camkit_core.errors import PluginError as PluginError
    from camkit_core.errors import TargetError as TargetError
    from camkit_core.errors import UnknownNameError as UnknownNameError
    from camkit_core.errors import UnsafeFileError as UnsafeFileError
    from camkit_core.explanation import INPUT as INPUT
    from camkit_core.explanation import Comparison as Comparison
    from camkit_core.explanation import Explanation as Explanation
    from camkit_core.explanation import Issue as Issue
    from camkit_core.explanation import Provenance as Provenance
    from camkit_core.hookspecs import hookimpl as hookimpl
    from camkit_core.hookspecs import hookspec as hookspec
    from camkit_core.layouts import ancestors_of as ancestors_of
    from camkit_core.layouts import makes_features as makes_features
    from camkit_core.layouts import output_channels as output_channels
    from camkit_core.layouts import picture_fit as picture_fit
    from camkit_core.method import MethodModel as MethodModel
    from camkit_core.metric import Interval as Interval
    from camkit_core.metric import MetricModel as MetricModel
    from camkit_core.metric import mean_interval as mean_interval
    from camkit_core.need import Claim as Claim
    from camkit_core.need import Need as Need
    from camkit_core.options import method_of as method_of
    from camkit_core.outputs import class_scores as class_scores
    from camkit_core.outputs import main_tensor as main_tensor
    from camkit_core.outputs import select as select
    from camkit_core.post import DEFAULT_POST as DEFAULT_POST
    from camkit_core.post import Post as Post
    from camkit_core.probe import LayerReport as LayerReport
    from camkit_core.probe import probe_layers as probe_layers
    from camkit_core.protocols import Attention as Attention
    from camkit_core.protocols import BiasTerm as BiasTerm
    from camkit_core.protocols import BoundTarget as BoundTarget
    from camkit_core.protocols import Control as Control
    from camkit_core.protocols import Evidence as Evidence
    from camkit_core.protocols import Geometry as Geometry
    from camkit_core.protocols import Head as Head
    from camkit_core.protocols import LayerGraph as LayerGraph
    from camkit_core.protocols import LoadedModel as LoadedModel
    from camkit_core.protocols import Method as Method
    from camkit_core.protocols import Metric as Metric
    from camkit_core.protocols import Picture as Picture
    from camkit_core.protocols import Prepared as Prepared
    from camkit_core.protocols import Preprocess as Preprocess
    from camkit_core.protocols import Renderer as Renderer
    from camkit_core.protocols import Reshape as Reshape
    from camkit_core.protocols import Rows as Rows
    from camkit_core.protocols import Runner as Runner
    from camkit_core.protocols import Target as Target
    from camkit_core.protocols import TargetContext as TargetContext
    from camkit_core.protocols import TargetInfo as TargetInfo
    from camkit_core.protocols import Truth as Truth
    from camkit_core.protocols import Writer as Writer
    from camkit_core.registry import Registry as Registry
    from camkit_core.registry import default_registry as default_registry
    from camkit_core.registry import near as near
    from camkit_core.registry import parse_spec as parse_spec
    from camkit_core.reshapes import ChannelsFirst as ChannelsFirst
    from camkit_core.reshapes import ChannelsLast as ChannelsLast
    from camkit_core.rows import TensorRows as TensorRows
    from camkit_core.targets import CallableTarget as CallableTarget
    from camkit_core.targets import ClassTarget as ClassTarget
    from camkit_core.targets import PerImageTarget as PerImageTarget
    from camkit_core.targets import choose_classes as choose_classes


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
