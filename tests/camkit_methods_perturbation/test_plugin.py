"""What the plugin offers, and that its listing needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import camkit_methods_perturbation
from camkit_core import Registry

NAMES = {
    *("scorecam", "gscorecam", "sscam", "iscam", "groupcam", "clustercam", "cosinecam", "polycam"),
    *("polygradcam", "opticam", "rise", "occlusion", "ablationcam", "reciprocam", "vitreciprocam"),
    *("liftcam", "channelshapley", "lime", "kernelshap", "drise"),
}


@pytest.fixture
def registry() -> Registry:
    return Registry(allow=["camkit-methods-perturbation"])


def test_the_plugin_is_found_with_its_version_and_methods(registry: Registry) -> None:
    (plugin,) = [info for info in registry.plugins if info.status != "blocked"]
    assert (plugin.distribution, plugin.status) == ("camkit-methods-perturbation", "ok")
    assert plugin.version == camkit_methods_perturbation.__version__
    assert {entry.name for entry in plugin.entries} == NAMES
    assert {entry.kind for entry in plugin.entries} == {"method"}


def test_blocking_it_leaves_it_listed_as_blocked() -> None:
    registry = Registry(block=["camkit_methods_perturbation"])
    status = {info.distribution: info.status for info in registry.plugins}
    assert status["camkit-methods-perturbation"] == "blocked"


def test_listings_say_what_the_classes_say(registry: Registry) -> None:
    for entry in registry.entries():
        found = registry.resolve("method", entry.name)
        assert found.name == entry.name
        assert found.needs.words() == entry.needs
        assert found.runs == entry.runs
        assert found.class_discriminative == entry.class_discriminative
        for name, field in found.model_fields.items():
            assert field.description, (entry.name, name)


def test_every_docstring_has_its_source(registry: Registry) -> None:
    """A paper's identifier, or the package that the method comes from."""
    for entry in registry.entries():
        text = " ".join((registry.resolve("method", entry.name).__doc__ or "").split())
        if entry.paper is None or not entry.paper.arxiv:
            assert "package" in text or (entry.paper and str(entry.paper.year) in text), entry.name
        else:
            assert entry.paper.arxiv in text, entry.name


def test_the_listing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, camkit_methods_perturbation.plugin as p; p.camkit_entries(); "
        "print(sorted({'torch', 'numpy', 'pydantic', 'skimage', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
