"""Installed entry points: found once, sorted, and without importing anything heavy."""

from __future__ import annotations

import json

from core_proof.plugins import install, on_path, write_plugin

from camkit_core import Registry, default_registry

HEAVY = ("torch", "numpy", "pydantic", "PIL")


def test_a_distribution_on_the_path_is_found_with_its_version(tmp_path):
    write_plugin(tmp_path, "fresh_plugin", "fresh")
    install(tmp_path, "Fresh.Dist", {"main": "fresh_plugin"}, "7.8.9")
    with on_path(tmp_path):
        found = Registry(allow=["fresh-dist"], strict=True)
        (info,) = [one for one in found.plugins if one.status == "ok"]
        assert (info.distribution, info.version, info.entry_point) == (
            "fresh-dist",
            "7.8.9",
            "main",
        )
        assert info.module == "fresh_plugin"
        assert [entry.qualified for entry in info.entries] == ["fresh-dist/fresh"]
        assert info.import_ms > 0


def test_plugins_are_sorted_by_distribution_whatever_the_order_on_disk(tmp_path):
    names = ["m", "z", "a", "b-2", "b-10"]
    for name in names:
        modname = f"{name.replace('-', '_')}_sorted"
        write_plugin(tmp_path, modname, f"x_{name.replace('-', '_')}")
        install(tmp_path, f"sorted-{name}", {"two": modname, "one": modname})
    with on_path(tmp_path):
        found = Registry(allow=[f"sorted-{name}" for name in names])
        order = [(p.distribution, p.entry_point) for p in found.plugins if p.status != "blocked"]
    assert order == sorted(order)
    assert len(order) == 2 * len(names)


def test_a_distribution_found_twice_is_registered_once(tmp_path):
    write_plugin(tmp_path, "twice_plugin", "twice")
    for folder in ("one", "two"):
        install(tmp_path / folder, "twice", {"main": "twice_plugin"})
    with on_path(tmp_path), on_path(tmp_path / "one"), on_path(tmp_path / "two"):
        found = Registry(allow=["twice"], strict=True)
        assert found.has("target", "twice")


def test_the_process_has_one_registry():
    assert default_registry() is default_registry()


def test_discovery_happens_once_per_process_and_not_at_import(fresh, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    write_plugin(site, "counted_plugin", "counted")
    install(site, "counted", {"main": "counted_plugin"})
    code = """
import sys
from importlib import metadata
calls, real = [], metadata.entry_points
metadata.entry_points = lambda **words: calls.append(words) or real(**words)
import camkit_core
assert "counted_plugin" not in sys.modules and calls == []
from camkit_core import default_registry
assert calls == []
first = default_registry()
assert first.has("target", "counted"), first.problems
assert "counted_plugin" in sys.modules
assert default_registry() is first and len(calls) == 1, calls
"""
    fresh(code, site)


def test_listing_needs_neither_torch_nor_numpy_nor_pydantic(fresh, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    write_plugin(site, "light_plugin", "light")
    install(site, "light-dist", {"main": "light_plugin"})
    code = f"""
import json, sys
import camkit_core
from camkit_core import Entry, Need, Paper, Problem, Registry, parse_spec, near, default_registry
found = Registry(allow=["light-dist"], strict=True)
names = [entry.name for entry in found.entries()]
try:
    found.find("method", "gradcm")
except camkit_core.PluginError as error:
    message = str(error)
dir(camkit_core)
print(json.dumps([names, message, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    names, message, heavy = json.loads(fresh(code, site))
    assert names == ["light"]
    assert "'gradcam'" in message
    assert heavy == []


def test_the_default_registry_of_whatever_is_installed_is_light_too(fresh):
    code = f"""
import sys
from camkit_core import default_registry
for plugin in default_registry().plugins:
    print(plugin.distribution, plugin.status)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert fresh(code).splitlines()[-1] == "[]"


def test_every_public_name_can_be_imported_and_nothing_else(fresh):
    code = """
import camkit_core
for name in camkit_core.__all__:
    getattr(camkit_core, name)
try:
    camkit_core.no_such_name
except AttributeError as error:
    print(error)
"""
    assert fresh(code) == "module 'camkit_core' has no attribute 'no_such_name'"


def test_plugins_of_the_environment_can_be_switched_off_for_a_process(fresh, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "evil_plugin.py").write_text("open('imported', 'w').close()\n")
    install(site, "evil", {"main": "evil_plugin"})
    code = "from camkit_core import default_registry; print(default_registry().entries())"
    assert fresh(code, site, CAMKIT_PLUGINS_ALLOW="") == "()"
    fresh(code, site, CAMKIT_PLUGINS_BLOCK="Evil")
    assert not (tmp_path / "imported").exists()
    fresh(code, site)
    assert (tmp_path / "imported").exists()


def test_strict_mode_of_the_environment_stops_a_process(fresh, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "evil_plugin.py").write_text("raise RuntimeError('mine')\n")
    install(site, "evil", {"main": "evil_plugin"}, "0.3")
    code = """
from camkit_core import PluginError, default_registry
try:
    default_registry()
except PluginError as error:
    print(error)
"""
    said = fresh(code, site, CAMKIT_STRICT_PLUGINS="1")
    assert said == "strict plugin mode: evil 0.3 (main): RuntimeError: mine"
    assert fresh(code, site, CAMKIT_STRICT_PLUGINS="0") == ""
