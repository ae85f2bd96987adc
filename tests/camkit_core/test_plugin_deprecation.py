"""How a hook or one of its arguments goes: announced, in use for a while, gone."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from core_proof.plugins import entry, install, module, offering, on_path

from camkit_core import PluginError, Registry, hookspec
from camkit_core.hookspecs import HookSpecs

GONE = DeprecationWarning("camkit_target_for: argument output goes in 0.3, use request only")


class NextSpecs(HookSpecs):
    """The hooks of a later version, with an argument and a hook that are on their way out."""

    @hookspec(firstresult=True, warn_on_impl_args={"output": GONE})
    def camkit_target_for(self, request: Any, output: Any, context: Any) -> Any: ...

    @hookspec(firstresult=True, warn_on_impl=DeprecationWarning("camkit_open_photo goes in 0.3"))
    def camkit_open_photo(self, spec: str) -> Any: ...


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camkit_core.discovery.HookSpecs", NextSpecs)


def build(plugin: Any, **words: Any) -> Registry:
    return Registry(discover=False, plugins=[("old-plugin", plugin)], **words)


def old(request: Any, output: Any) -> Any:
    return ("target of", request)


def test_an_old_argument_warns_at_the_plugins_line_and_still_works() -> None:
    plugin = offering(entry("x"), camkit_target_for=old)
    with pytest.warns(DeprecationWarning, match="argument output goes in 0.3") as caught:
        registry = build(plugin)
    assert {(one.filename, one.lineno) for one in caught} == {
        (__file__, old.__code__.co_firstlineno)
    }
    assert registry.problems == ()
    assert [one.status for one in registry.plugins] == ["ok"]
    assert registry.target_for("this", None, None) == ("target of", "this")


def test_it_warns_once_per_plugin() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(offering(entry("x"), camkit_target_for=old))
    assert len(caught) == 1


def test_an_old_hook_warns_and_still_works() -> None:
    plugin = offering(entry("x"), camkit_open_photo=lambda spec: f"photo of {spec}")
    with pytest.warns(DeprecationWarning, match="camkit_open_photo goes in 0.3"):
        registry = build(plugin)
    assert registry.open_photo("duo:7") == "photo of duo:7"


def test_a_plugin_that_already_does_without_hears_nothing() -> None:
    plugin = offering(entry("x"), camkit_target_for=lambda request: ("new", request))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = build(plugin, strict=True)
    assert registry.target_for("this", None, None) == ("new", "this")


def test_where_warnings_are_errors_the_plugin_is_recorded_and_the_others_live() -> None:
    outdated = ("old-plugin", offering(entry("x"), camkit_target_for=old))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = Registry(discover=False, plugins=[outdated, ("new", offering(entry("y")))])
        with pytest.raises(PluginError, match="old-plugin 0"):
            build(outdated[1], strict=True)
    assert [one.name for one in registry.entries()] == ["y"]
    (problem,) = registry.problems
    assert "argument output goes in 0.3" in problem.message


def test_todays_hooks_announce_nothing(monkeypatch) -> None:
    monkeypatch.undo()
    everything = module(
        "m",
        camkit_entries=lambda: [],
        camkit_load_model=lambda spec: None,
        camkit_open_photo=lambda spec: None,
        camkit_reshape_for=lambda model, layer_name, layer, output, image: None,
        camkit_target_for=lambda request, output: None,
        camkit_default_layer=lambda model, image: None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(everything, strict=True)


def test_a_plugin_of_the_disk_is_warned_about_with_its_own_file(tmp_path) -> None:
    code = (
        "from camkit_core import Entry, hookimpl\n\n\n"
        "@hookimpl\ndef camkit_entries():\n    return []\n\n\n"
        "@hookimpl\ndef camkit_target_for(request, output):\n    return None\n"
    )
    (tmp_path / "old_file.py").write_text(code)
    install(tmp_path, "old-dist", {"main": "old_file"})
    with on_path(tmp_path), pytest.warns(DeprecationWarning, match="output goes") as caught:
        Registry(allow=["old-dist"])
    assert {one.filename for one in caught} == {str(tmp_path / "old_file.py")}
