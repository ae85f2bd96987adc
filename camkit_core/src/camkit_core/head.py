"""Finds the linear layer behind global average pooling, and proves that it is one."""

from __future__ import annotations

import torch
from torch import Tensor

from camkit_core.errors import CapabilityError, TargetError
from camkit_core.outputs import class_scores
from camkit_core.protocols import Head
from camkit_core.recorder import LinearCall
from camkit_core.session import Session
from camkit_core.tree import exact


def find_head(session: Session, layer: str) -> Head:
    """The head of a network `logits = W @ mean_S(A) + b` at `layer`.

    The claim is checked on the data: the layer's input must be the pooled activations, and its
    output the class scores.

    Raises:
        CapabilityError: the model has no such head behind this layer.
    """
    pooled = session.activations(layer).flatten(2).mean(2)
    try:
        logits = class_scores(session.explained).detach()
    except TargetError as error:
        raise CapabilityError(f"class weights need class scores: {error}") from error
    for call in session.linear_calls:
        if _same(call.input, pooled) and _same(call.output, logits):
            return _head(call)
    raise CapabilityError(
        f"the class scores are not one linear layer of the average of {layer!r}, so there are no "
        "class weights to map; choose the layer that feeds global average pooling, or use gradcam, "
        "which generalizes CAM to any head"
    )


def _head(call: LinearCall) -> Head:
    weight, bias = call.module.weight, call.module.bias
    assert isinstance(weight, Tensor)
    return Head(
        call.name,
        exact(weight.detach().flatten(1)),
        exact(bias.detach()) if isinstance(bias, Tensor) else None,
    )


def _same(given: Tensor, wanted: Tensor) -> bool:
    """Equal up to the rounding of the layer's own precision."""
    tolerance = min(0.05, 16 * torch.finfo(given.dtype).eps ** 0.75)
    flat = exact(given)
    if flat.numel() != wanted.numel() or not wanted.numel():
        return flat.numel() == wanted.numel()
    flat = flat.reshape(wanted.shape)
    scale = wanted.abs().amax().clamp_min(torch.finfo(wanted.dtype).tiny)
    return bool(((flat - wanted).abs().amax() <= tolerance * scale).item())
