"""What the registry finds."""

from __future__ import annotations

import subprocess
import sys

import pytest

import camkit_metrics
from camkit_core import Control, Metric, Registry, UnknownNameError

METRICS = ["contrast", "energy", "gridpg", "iou", "pointing", "rankaccuracy"]
CONTROLS = ["center", "oracle", "random", "sobel"]


@pytest.fixture
def registry():
    return Registry(allow=["camkit-metrics"])


def test_the_plugin_is_found_with_its_version(registry):
    (plugin,) = [info for info in registry.plugins if info.status != "blocked"]
    assert (plugin.distribution, plugin.status) == ("camkit-metrics", "ok")
    assert plugin.version == camkit_metrics.__version__


def test_blocking_it_leaves_it_listed_as_blocked():
    registry = Registry(block=["camkit_metrics"])
    status = {info.distribution: info.status for info in registry.plugins}
    assert status["camkit-metrics"] == "blocked"


@pytest.mark.parametrize(
    ("kind", "names", "protocol"), [("metric", METRICS, Metric), ("control", CONTROLS, Control)]
)
def test_every_entry_is_what_it_says(registry, kind, names, protocol):
    entries = registry.entries(kind)
    assert [entry.name for entry in entries] == names
    for entry in entries:
        found = registry.resolve(kind, entry.name)
        assert found.name == entry.name
        assert isinstance(found(), protocol)
        assert 10 < len(entry.summary) < 60


def test_metrics_with_a_source_can_be_cited(registry):
    papers = {entry.name: entry.paper for entry in registry.entries("metric")}
    assert papers.pop("contrast") is None  # our own
    for name, paper in papers.items():
        assert paper is not None, name
        assert paper.arxiv in paper.bibtex(name)
        source = registry.resolve("metric", name).__doc__
        assert paper.arxiv in source
        assert f"{paper.year}" in source


def test_higher_is_better_for_all(registry):
    kinds = [registry.resolve("metric", name) for name in METRICS]
    assert all(kind.higher_is_better for kind in kinds)


def test_unknown_metrics_are_answered_with_near_misses(registry):
    with pytest.raises(UnknownNameError, match=r"no metric is called 'enregy'.*'energy'"):
        registry.find("metric", "enregy")


def test_listing_imports_no_torch():
    code = (
        "import sys; from camkit_core import Registry; "
        "found = Registry(allow=['camkit-metrics']).entries('metric'); "
        "print(len(found), [m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6 []"
