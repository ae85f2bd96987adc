"""The plugin's entries lead somewhere, and listing them costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import camkit_tasks
from camkit_core import LoadedModel, ModelError, Registry, Reshape, Target
from camkit_tasks import plugin


@pytest.fixture
def registry() -> Registry:
    return Registry(discover=False, plugins=[("camkit-tasks", plugin)], strict=True)


def test_listing_imports_neither_torch_nor_numpy_nor_pillow():
    code = (
        "import sys, camkit_tasks; from camkit_tasks import plugin; plugin.camkit_entries(); "
        "heavy = {'torch', 'torchvision', 'numpy', 'PIL', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_entry_resolves(registry):
    assert registry.problems == ()
    entries = registry.entries()
    assert {("target", "margin"), ("reshape", "tokens"), ("model family", "torchvision")} <= {
        (entry.kind, entry.name) for entry in entries
    }
    for entry in entries:
        found = registry.resolve(entry.kind, entry.name)
        assert callable(found)
        assert entry.summary
        if entry.kind == "target":
            assert isinstance(found.example()[0] if hasattr(found, "example") else found(), Target)
        if entry.kind == "reshape":
            assert isinstance(found(), Reshape)


def test_lazy_names():
    for name in camkit_tasks.__all__:
        assert getattr(camkit_tasks, name) is not None
    assert set(camkit_tasks.__all__) == set(dir(camkit_tasks))
    with pytest.raises(AttributeError, match="has no attribute 'Tokes'"):
        _ = camkit_tasks.Tokes


def test_hooks_reach_the_registry(registry, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.LayerNorm(24))
    tokens = torch.zeros(2, 1 + 4 * 6, 24), (4, 6)
    found = registry.reshape_for(model, "1", model[1], tokens, torch.zeros(2, 3, 32, 48))
    assert found == camkit_tasks.Tokens(prefix=1, grid=(4, 6))
    assert registry.default_layer(model, torch.zeros(2, 3, 32, 32)) is None
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(): return nn.Conv2d(3, 2, 3)\n"
    )
    assert isinstance(registry.load_model(f"{tmp_path}/net.py:build"), LoadedModel)


@pytest.mark.parametrize("spec", ["onnx:resnet18", "demo:cnn", "org/name", "resnet50", "a b"])
def test_other_families_are_left_to_others(registry, spec):
    assert plugin.camkit_load_model(spec) is None
    with pytest.raises(ModelError, match="no plugin understands"):
        registry.load_model(spec)
