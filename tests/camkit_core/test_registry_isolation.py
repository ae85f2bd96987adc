"""A plugin that fails is recorded and quoted, and never breaks another one."""

from __future__ import annotations

import pytest
from core_proof.plugins import entry, install, module, offering, on_path, write_plugin

from camkit_core import API, ModelError, PluginError, Registry, UnknownNameError


def build(*plugins, **words):
    return Registry(discover=False, plugins=list(plugins), **words)


def raising():
    raise OSError("disk\non fire")


GOOD = ("good", offering(entry("fine")))

BROKEN = {
    "raises in its hook": (module("m", camkit_entries=raising), "OSError: disk on fire"),
    "asks for unknown arguments": (
        module("m", camkit_entries=lambda nonsense: []),
        "nonsense",
    ),
    "asks a behaviour hook for unknown arguments": (
        offering(entry("x"), camkit_load_model=lambda path: None),
        "path",
    ),
    "implements an unknown hook": (
        offering(entry("x"), camkit_dance=lambda: None),
        "camkit_dance",
    ),
    "returns something else": (module("m", camkit_entries=lambda: ["gradcam"]), "Entry.*str"),
    "returns nothing iterable": (module("m", camkit_entries=lambda: 3), "TypeError"),
    "offers a name twice": (offering(entry("x"), entry("x")), "target 'x' twice"),
    "offers an alias twice": (
        offering(entry("x", aliases=("y",)), entry("y")),
        "target 'y' twice",
    ),
    "is of a later interface": (offering(entry("x"), CAMKIT_API=API + 1), f"interface {API + 1}"),
    "is of an earlier interface": (offering(entry("x"), CAMKIT_API=0), "interface 0"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_broken_plugin_is_isolated_recorded_and_quoted(kind, place):
    plugin, words = BROKEN[kind]
    pair = [("Bad_Dist", plugin), GOOD]
    found = build(*(pair if place == "first" else reversed(pair)))
    assert [one.name for one in found.entries()] == ["fine"]
    (problem,) = found.problems
    assert (problem.distribution, problem.version) == ("bad-dist", "0")
    assert "\n" not in str(problem)
    (info,) = [one for one in found.plugins if one.distribution == "bad-dist"]
    assert info.status == ("incompatible" if "interface" in kind else "broken")
    assert info.problem
    assert info.entries == ()
    with pytest.raises(UnknownNameError, match=rf"1 plugin problem.*bad-dist 0.*{words}"):
        found.find("target", "x")


@pytest.mark.parametrize("kind", BROKEN)
def test_strict_mode_raises_for_the_same_plugin(kind, monkeypatch):
    plugin, words = BROKEN[kind]
    with pytest.raises(PluginError, match=rf"strict plugin mode: bad.*{words}"):
        build(("bad", plugin), GOOD, strict=True)
    monkeypatch.setenv("CAMKIT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="strict plugin mode"):
        build(("bad", plugin))
    build(("bad", plugin), strict=False)


@pytest.mark.parametrize("value", ["0", "", "no"])
def test_strict_mode_is_off_unless_it_is_one(value, monkeypatch):
    monkeypatch.setenv("CAMKIT_STRICT_PLUGINS", value)
    assert build(("bad", BROKEN["offers a name twice"][0])).problems


def test_the_original_error_of_a_broken_plugin_is_kept():
    (problem,) = build(("bad", module("m", camkit_entries=raising))).problems
    assert isinstance(problem.error, OSError)


def test_an_unknown_kind_is_ignored_and_recorded_and_the_rest_is_kept():
    found = build(("odd", offering(entry("x", kind="spell"), entry("fine"))))
    assert [one.name for one in found.entries()] == ["fine"]
    (problem,) = found.problems
    assert "'x'" in problem.message
    assert "unknown kind 'spell'" in problem.message


def test_hooks_of_a_broken_plugin_are_not_called():
    called = []
    bad = offering(
        entry("x"), entry("x"), camkit_load_model=lambda spec: called.append(spec) or "model"
    )
    with pytest.raises(ModelError, match=r"no plugin understands.*offers the target 'x' twice"):
        build(("bad", bad)).load_model("anything")
    assert called == []


def test_all_problems_are_quoted_together():
    plugins = [(f"bad-{index}", plugin) for index, (plugin, _) in enumerate(BROKEN.values())]
    found = build(*plugins, GOOD)
    assert len(found.problems) == len(BROKEN)
    with pytest.raises(UnknownNameError) as caught:
        found.find("method", "x")
    assert all(f"bad-{index} 0" in str(caught.value) for index in range(len(BROKEN)))
    assert f"{len(BROKEN)} plugin problem(s)" in str(caught.value)


IMPORTS = {
    "syntax": ("def broken(:\n", "SyntaxError"),
    "missing module": ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
    "raises": ("raise RuntimeError('no license')\n", "no license"),
    "exits": ("raise SystemExit('bye')\n", "bye"),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_a_module_that_fails_to_import_is_isolated(kind, tmp_path):
    code, words = IMPORTS[kind]
    (tmp_path / "breaking_plugin.py").write_text(code)
    write_plugin(tmp_path, "sound_plugin", "fine")
    install(tmp_path, "Breaking.Dist", {"main": "breaking_plugin"}, "3.4")
    install(tmp_path, "sound-dist", {"main": "sound_plugin"})
    with on_path(tmp_path):
        found = Registry(allow=["breaking-dist", "sound-dist"])
        assert [one.name for one in found.entries()] == ["fine"]
        (problem,) = found.problems
        assert (problem.distribution, problem.version) == ("breaking-dist", "3.4")
        assert words in problem.message
        with pytest.raises(PluginError, match="strict"):
            Registry(allow=["breaking-dist"], strict=True)


@pytest.mark.parametrize("value", ["sound_plugin:no_such_object", "no_such_module_anywhere"])
def test_an_entry_point_to_nothing_is_isolated(value, tmp_path):
    write_plugin(tmp_path, "sound_plugin", "fine")
    install(tmp_path, "lost", {"bad": value, "main": "sound_plugin"})
    with on_path(tmp_path):
        found = Registry(allow=["lost"])
        assert [one.name for one in found.entries()] == ["fine"]
        assert [problem.entry_point for problem in found.problems] == ["bad"]


def test_an_object_may_be_the_plugin_instead_of_a_module(tmp_path):
    text = (
        "from camkit_core import Entry, hookimpl\n"
        "class Plugin:\n"
        "    @hookimpl\n"
        "    def camkit_entries(self):\n"
        "        return [Entry(kind='target', name='deep', ref='json:loads')]\n"
        "class Space:\n"
        "    plugin = Plugin()\n"
    )
    (tmp_path / "object_plugin.py").write_text(text)
    install(tmp_path, "objects", {"main": "object_plugin:Space.plugin"})
    with on_path(tmp_path):
        assert Registry(allow=["objects"], strict=True).find("target", "deep").distribution == (
            "objects"
        )
