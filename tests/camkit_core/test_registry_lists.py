"""Block and allow lists are applied before anything is imported."""

from __future__ import annotations

import sys

import pytest
from core_proof.plugins import entry, install, offering, on_path, write_plugin

from camkit_core import Registry, UnknownNameError

NAMES = ("alpha", "beta-two", "gamma")


@pytest.fixture
def site(tmp_path):
    for name in NAMES:
        modname = f"{name.replace('-', '_')}_plugin"
        write_plugin(tmp_path, modname, name.replace("-", "_"))
        install(tmp_path, name, {"main": modname})
    with on_path(tmp_path):
        yield tmp_path


def imported():
    return {name for name in NAMES if f"{name.replace('-', '_')}_plugin" in sys.modules}


def offered(registry):
    return {e.distribution for e in registry.entries() if e.distribution in NAMES}


def statuses(registry):
    return {p.distribution: p.status for p in registry.plugins if p.distribution in NAMES}


def test_without_lists_everything_is_imported(site):
    found = Registry()
    assert offered(found) == imported() == set(NAMES)
    assert set(statuses(found).values()) == {"ok"}


@pytest.mark.parametrize("spelled", ["beta-two", "Beta_Two", "BETA.two", "beta--two", " beta-two "])
def test_a_blocked_distribution_is_not_imported_however_it_is_spelled(site, spelled):
    found = Registry(block=[spelled])
    assert offered(found) == imported() == {"alpha", "gamma"}
    assert statuses(found)["beta-two"] == "blocked"
    assert found.problems == ()
    with pytest.raises(UnknownNameError):
        found.find("target", "beta_two")


@pytest.mark.parametrize("spelled", ["beta-two", "Beta_Two", "BETA.two"])
def test_with_an_allow_list_nothing_else_is_imported(site, spelled):
    found = Registry(allow=[spelled])
    assert offered(found) == imported() == {"beta-two"}
    assert statuses(found) == {"alpha": "blocked", "beta-two": "ok", "gamma": "blocked"}


def test_blocking_wins_over_allowing(site):
    found = Registry(allow=["alpha", "gamma"], block=["alpha"])
    assert offered(found) == imported() == {"gamma"}


def test_an_empty_allow_list_lets_nothing_in(site):
    found = Registry(allow=[])
    assert found.entries() == ()
    assert imported() == set()


def test_the_environment_blocks(site, monkeypatch):
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", " Alpha , beta_two,")
    assert offered(Registry()) == imported() == {"gamma"}


def test_the_environment_allows(site, monkeypatch):
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "alpha")
    assert offered(Registry()) == imported() == {"alpha"}


def test_an_empty_variable_lets_nothing_in_or_blocks_nothing(site, monkeypatch):
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "")
    assert offered(Registry()) == imported() == set()
    monkeypatch.delenv("CAMKIT_PLUGINS_ALLOW")
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", "")
    assert offered(Registry()) == set(NAMES)


def test_arguments_win_over_the_environment(site, monkeypatch):
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "alpha")
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", "gamma")
    assert offered(Registry(allow=["beta-two", "gamma"], block=[])) == {"beta-two", "gamma"}


def test_lists_hold_for_plugins_handed_in_too():
    plugins = [("one", offering(entry("a"))), ("two", offering(entry("b")))]
    found = Registry(discover=False, plugins=plugins, block=["Two"])
    assert [e.name for e in found.entries()] == ["a"]


def test_a_broken_plugin_that_is_blocked_is_no_problem(site):
    (site / "alpha_plugin.py").write_text("raise RuntimeError\n")
    found = Registry(block=["alpha"], allow=NAMES, strict=True)
    assert found.problems == ()
    assert offered(found) == {"beta-two", "gamma"}
