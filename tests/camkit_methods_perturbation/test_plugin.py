from __future__ import annotations

import pytest

import camkit_methods_perturbation
from camkit_core import Registry, UnknownNameError


def test_the_plugin_is_found_with_its_version_and_offers_nothing_yet():
    registry = Registry(allow=["camkit-methods-perturbation"])
    (plugin,) = [info for info in registry.plugins if info.status != "blocked"]
    assert (plugin.distribution, plugin.status, plugin.entries) == (
        "camkit-methods-perturbation",
        "ok",
        (),
    )
    assert plugin.version == camkit_methods_perturbation.__version__


def test_blocking_it_leaves_it_listed_as_blocked():
    registry = Registry(block=["camkit_methods_perturbation"])
    status = {info.distribution: info.status for info in registry.plugins}
    assert status["camkit-methods-perturbation"] == "blocked"


def test_no_method_is_promised():
    with pytest.raises(UnknownNameError, match="no method is called 'scorecam'"):
        Registry(allow=["camkit-methods-perturbation"]).find("method", "scorecam")
