"""The certificate notices values that left PyTorch through NumPy, which core does not depend on."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from camkit_core import Capture, MethodModel, Need, explain


class Certified(MethodModel):
    """The certified gradient, or what makes its absence visible."""

    name: ClassVar[str] = "certified"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL

    def __call__(self, capture: Capture, /) -> Tensor:
        gradient = capture.affine
        capture.report("certified", str(gradient is not None))
        return capture.activations.sum(1)


class Gated(nn.Module):
    """Channels are weighted by the layer's own values, or by those of the image."""

    def __init__(self, *, by_itself: bool) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)
        self.by_itself = by_itself
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        a = self.layer(x)
        seen = a if self.by_itself else x
        gate = torch.as_tensor(seen.detach().numpy().copy()).clamp(0, 1)
        return self.head((a * gate).mean((2, 3)))


@pytest.mark.parametrize("by_itself", [True, False], ids=["by itself", "by the image"])
def test_a_gate_that_numpy_made_of_the_layer_is_refused(by_itself: bool) -> None:
    torch.manual_seed(0)
    net, x = Gated(by_itself=by_itself), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    found = explain(net, x, Certified(), 1, "layer")
    (told,) = [issue.message for issue in found.issues if issue.code == "certified"]
    assert told == str(not by_itself)
