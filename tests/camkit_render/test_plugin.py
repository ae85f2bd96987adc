"""What the registry sees."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

import camkit_render
from camkit_core import Registry
from camkit_render.plugin import camkit_entries


@pytest.mark.parametrize("module", ["camkit_render", "camkit_render.plugin"])
def test_listing_imports_nothing_heavy(module):
    code = (
        f"import sys, {module} as m; getattr(m, 'camkit_entries', list)();"
        "print([n for n in ('torch', 'numpy', 'PIL', 'cmap', 'safetensors') if n in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert out.stdout.strip() == "[]"


def test_entries_are_what_they_say():
    entries = camkit_entries()
    assert {(entry.kind, entry.name) for entry in entries} == {
        *(("renderer", name) for name in ("overlay", "heatmap", "grid")),
        *(("writer", name) for name in ("png", "npz", "safetensors", "json")),
    }
    for entry in entries:
        module, _, attribute = entry.ref.partition(":")
        kind = getattr(import_module(module), attribute)
        assert kind.name == entry.name
        assert entry.summary
        assert entry.suffixes == ((f".{entry.name}",) if entry.kind == "writer" else ())


def test_public_names_exist():
    for name in camkit_render.__all__:
        assert getattr(camkit_render, name) is not None
    assert set(camkit_render.__all__) <= set(dir(camkit_render))
    with pytest.raises(AttributeError, match="nothing_like_that"):
        _ = camkit_render.nothing_like_that


def test_explanations_show_and_save_themselves(make, tmp_path):
    """Through the registry of an installed package, as users do."""
    registry = Registry(plugins=[])
    assert registry.has("renderer", "overlay"), registry.problems
    explanation = dataclasses.replace(make(torch.rand(1, 8, 8)), registry=registry)
    shown = explanation.show(alpha=0.7)
    explanation.save(tmp_path / "a.PNG", alpha=0.7)
    with Image.open(tmp_path / "a.PNG") as image:
        np.testing.assert_array_equal(np.array(image), np.array(shown))
    assert explanation._repr_png_().startswith(b"\x89PNG")
    for suffix in ("npz", "safetensors", "json"):
        assert explanation.save(tmp_path / f"a.{suffix}").stat().st_size > 100
