"""The default layer of a model whose layers are called past the module tree."""

from __future__ import annotations

import pytest
from core_proof.methods import registry
from core_proof.networks import Chain, images
from core_proof.snapshot import unchanged
from torch import nn

from camkit_core import CamkitError, explain, probe_layers


class Listed(Chain):
    """Called past the module tree."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6).double()
        self.steps = [self.stem, self.body, self.neck, self.norm]
        self.eval()

    def forward(self, x):
        for step in self.steps:
            x = self.act(step(x))
        return self.finish(x)


def test_layers_called_past_the_tree_are_probed_too():
    net, x = Listed(), images()
    with unchanged(net, x):
        found = explain(net, x, target=1, registry=registry())
    assert found.provenance.layers == ("norm",)


class LateListed(Chain):
    """Only the last layers are called past the module tree."""

    def __init__(self) -> None:
        super().__init__()
        self.late = [self.body, self.neck]

    def forward(self, x):
        z = self.act(self.stem(x))
        for step in self.late:
            z = self.act(step(z))
        return self.finish(z)


def test_late_layers_called_past_the_tree_are_not_overlooked():
    net, x = LateListed(), images()
    with unchanged(net, x):
        found = explain(net, x, target=1, registry=registry())
    assert found.provenance.layers == ("neck",)


@pytest.mark.parametrize("trained", ["all", "norm"])
def test_probing_never_runs_an_original_in_training_mode(trained):
    net, x = Listed(), images()
    (net if trained == "all" else net.norm).train()
    for call in (explain, probe_layers):
        with unchanged(net, x), pytest.raises(CamkitError, match=r"past the module tree.*eval\(\)"):
            call(net, x, registry=registry())
