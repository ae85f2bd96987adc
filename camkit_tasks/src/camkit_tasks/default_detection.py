"""Where to look in a detector: the last layer that every detection is computed from.

A detector reads objects of different size from different levels of its features. A layer on one
level has no gradient for the objects of another, so the last layer before the levels part is the
place. It is found by the structure that detectors share, not by their names.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_SOURCE, _NUMBER = "f", "i"
"""Attributes of layers in YOLO-shaped models: where the input comes from, and their own number."""


def default_layer(model: nn.Module) -> str | None:
    """Name of that layer, or None for anything but a detector of a known structure.

    A detector may be the child of a module, of a training class, say.
    """
    for name, module in (("", model), *model.named_children()):
        found = _behind_stages(module) or _before_extra(module) or _in_a_graph(module)
        if found:
            return f"{name}.{found}".lstrip(".")
    return None


def _behind_stages(model: nn.Module) -> str | None:
    """The last stage of a backbone whose features a pyramid mixes from the top down.

    torchvision's Faster R-CNN, Mask R-CNN, Keypoint R-CNN, RetinaNet and FCOS: every level of the
    pyramid has the last stage in it.
    """
    backbone = getattr(model, "backbone", None)
    body, pyramid = getattr(backbone, "body", None), getattr(backbone, "fpn", None)
    if not isinstance(body, nn.Module) or not isinstance(pyramid, nn.Module):
        return None
    stages = [name for name, _ in body.named_children()]
    return f"backbone.body.{stages[-1]}" if stages else None


def _before_extra(model: nn.Module) -> str | None:
    """The first features that SSD looks at: all later ones are computed from them."""
    backbone = getattr(model, "backbone", None)
    features, extra = getattr(backbone, "features", None), getattr(backbone, "extra", None)
    if not isinstance(features, nn.Sequential) or not isinstance(extra, nn.ModuleList):
        return None
    # With a scale for the first features (VGG) they are all of `features`, else its first part.
    whole = isinstance(getattr(backbone, "scale_weight", None), nn.Parameter)
    first = next((name for name, _ in features.named_children()), None)
    return "backbone.features" if whole else f"backbone.features.{first}" if first else None


def _in_a_graph(model: nn.Module) -> str | None:
    """The last layer of a YOLO-shaped model that all inputs of its head are computed from."""
    for name, stack in (("", model), *model.named_children()):
        layers = list(stack.children()) if isinstance(stack, nn.Sequential | nn.ModuleList) else []
        if len(layers) < 2 or not all(map(_has_source, layers)):
            continue
        head = _sources(layers[-1], len(layers) - 1)
        common = set.intersection(*(_before(source, layers) for source in head))
        return f"{name}.{max(common)}".lstrip(".") if len(head) > 1 and common else None
    return None


def _has_source(layer: Any) -> bool:
    source, number = getattr(layer, _SOURCE, None), getattr(layer, _NUMBER, None)
    return isinstance(source, int | list | tuple) and isinstance(number, int)


def _sources(layer: Any, number: int) -> list[int]:
    source = getattr(layer, _SOURCE)
    found = [source] if isinstance(source, int) else list(source)
    return [one if one >= 0 else number + one for one in found]


def _before(number: int, layers: list[nn.Module]) -> set[int]:
    """A layer and all those that it is computed from."""
    found: set[int] = set()
    todo = [number]
    while todo:
        one = todo.pop()
        if one < 0 or one in found:
            continue
        found.add(one)
        todo += _sources(layers[one], one)
    return found
