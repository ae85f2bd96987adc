from __future__ import annotations

import pytest

import camkit_metrics
from camkit_core import Registry, UnknownNameError


def test_the_plugin_is_found_with_its_version_and_offers_nothing_yet():
    registry = Registry(allow=["camkit-metrics"])
    (plugin,) = [info for info in registry.plugins if info.status != "blocked"]
    assert (plugin.distribution, plugin.status, plugin.entries) == ("camkit-metrics", "ok", ())
    assert plugin.version == camkit_metrics.__version__


def test_blocking_it_leaves_it_listed_as_blocked():
    registry = Registry(block=["camkit_metrics"])
    status = {info.distribution: info.status for info in registry.plugins}
    assert status["camkit-metrics"] == "blocked"


def test_no_metric_is_promised():
    with pytest.raises(UnknownNameError, match="no metric is called 'insertion'"):
        Registry(allow=["camkit-metrics"]).find("metric", "insertion")
