"""`camkit plugins list` and `check`: who brings what, and whether it keeps the contract."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import pytest
from torch import Tensor

from camkit_core import Claim, Entry, MethodModel, Need, Registry, hookimpl


class Sound(MethodModel):
    """Gradient times activation, summed over channels."""

    name: ClassVar[str] = "sound"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.GRADIENTS
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {
            Claim.DETERMINISTIC,
            Claim.CHANNEL_PERMUTATION,
            Claim.CHANNEL_RESCALING,
            Claim.SCORE_SCALING,
            Claim.SCORE_SHIFT,
            Claim.CONSERVATION,
            Claim.GAP_IS_CAM,
            Claim.LOCALITY,
            Claim.LINEAR_IN_TARGET,
        }
    )

    def __call__(self, capture, /) -> Tensor:
        return (capture.gradients * capture.activations).sum(1)


class Wrong(Sound):
    """The mean over the batch: every image gets the same map."""

    name: ClassVar[str] = "wrong"

    def __call__(self, capture, /) -> Tensor:
        return super().__call__(capture).mean(0, keepdim=True).expand(len(capture.inputs), -1, -1)


class Demanding:
    """A reshape that cannot be made without options."""

    def __init__(self, width: str) -> None:
        self.width = int(width)

    def to_spatial(self, output: Tensor, /) -> Tensor:
        return output

    def from_spatial(self, maps: Tensor, like: Tensor, /) -> Tensor:
        return maps


def entry(name: str, attribute: str, **words: object) -> Entry:
    facts = {"needs": ("activations", "gradients"), "runs": "1F + 1B"}
    facts |= {"class_discriminative": True, "summary": f"What {name} does."}
    facts["ref"] = f"a_third_party:{attribute}"
    return Entry(kind="method", name=name, **{**facts, **words})


def plugin(*entries: Entry, **hooks: Callable[..., object]) -> ModuleType:
    module = ModuleType("a_plugin")

    @hookimpl
    def camkit_entries() -> list[Entry]:
        return list(entries)

    module.camkit_entries = camkit_entries  # type: ignore[attr-defined]
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook))
    return module


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the command line these plugins and no others."""
    third_party = ModuleType("a_third_party")
    third_party.__dict__.update(Sound=Sound, Wrong=Wrong, Demanding=Demanding)
    monkeypatch.setitem(sys.modules, "a_third_party", third_party)

    def call(**plugins: ModuleType) -> None:
        named = [(name.replace("_", "-"), module) for name, module in plugins.items()]
        registry = Registry(plugins=named, discover=False, strict=False)
        for place in ("app", "plugins.listing", "plugins.checking", "plugins.creating"):
            monkeypatch.setattr(f"camkit.cli.{place}.default_registry", lambda: registry)

    return call


BROKEN = plugin(entry("x", "Sound"), camkit_load_model=lambda path: None)


def test_the_list_says_where_everything_comes_from(run, install) -> None:
    install(camkit_good=plugin(entry("sound", "Sound")), camkit_bad=BROKEN)
    for argv in (["plugins"], ["plugins", "list"]):
        good, bad = run(*argv, "--json").records
        assert (good["distribution"], good["status"]) == ("camkit-good", "ok")
        assert good["entries"] == [{"kind": "method", "name": "sound"}]
        assert (good["version"], good["entry_point"], good["module"]) == (
            "0",
            "camkit-good",
            "a_plugin",
        )
        assert good["import_ms"] >= 0
        assert (bad["status"], bad["entries"]) == ("broken", [])
        assert "path" in bad["problem"]
        text = run(*argv)
        assert text.out == ""
        assert "warning: plugin camkit-bad 0" in text.err


def test_an_unknown_action_is_refused_with_the_near_one(run) -> None:
    done = run("plugins", "chek")
    assert (done.code, done.lines) == (
        2,
        ["error: camkit plugins has no command 'chek'; did you mean 'check'?"],
    )
    assert "there are list, check and new" in run("plugins", "zzz").err


@pytest.mark.parametrize("name", ["camkit-good", "good", "camkit_good", "sound"])
def test_a_sound_method_conforms(run, install, name) -> None:
    install(camkit_good=plugin(entry("sound", "Sound")))
    done = run("plugins", "check", name)
    assert done.code == 0, done.err
    assert done.lines[-1].startswith("conforms: ")
    assert "batch_independence" in done.err
    assert ("plugin camkit-good" in done.err) is (name != "sound")


def test_a_plugin_that_offers_nothing_does_not_conform(run, install) -> None:
    install(camkit_good=plugin())
    done = run("plugins", "check", "camkit-good")
    assert done.code == 1
    assert "offers: it offers nothing" in done.err


def test_a_wrong_method_does_not_and_the_table_says_why(run, install) -> None:
    install(camkit_good=plugin(entry("sound", "Sound"), entry("wrong", "Wrong")))
    done = run("plugins", "check", "camkit-good")
    assert done.code == 1
    assert "checks failed, in method wrong" in done.lines[-1]
    assert "batch_independence: " in done.err
    records = run("plugins", "check", "camkit-good", "--json").records
    assert [(r["kind"], r["name"], r["ok"]) for r in records[1:]] == [
        ("method", "sound", True),
        ("method", "wrong", False),
    ]
    failed = {row["check"] for row in records[2]["rows"] if row["status"] == "failed"}
    assert "batch_independence" in failed
    assert run("plugins", "check", "sound").code == 0


def test_a_broken_plugin_says_what_is_wrong(run, install) -> None:
    install(camkit_bad=BROKEN, camkit_good=plugin(entry("sound", "Sound")))
    done = run("plugins", "check", "bad")
    assert done.code == 1
    assert "loads: PluginValidationError" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"runs": "1F"}, "its entry says runs='1F', its class '1F + 1B'"),
        ({"class_discriminative": False}, "its entry says class_discriminative=False"),
        ({"summary": ""}, "its summary must be one line"),
        ({"summary": "two\nlines"}, "its summary must be one line"),
        ({"needs": ("activations",)}, "its entry says needs"),
        ({"ref": "a_third_party:Missing"}, "could not be imported"),
    ],
)
def test_an_entry_that_says_something_else_than_its_class_fails(run, install, words, said) -> None:
    install(camkit_good=plugin(entry("sound", "Sound", **words)))
    done = run("plugins", "check", "camkit-good")
    assert done.code == 1
    assert said in " ".join(done.err.split())


def test_options_of_one_thing_are_taken_and_missing_ones_asked_for(run, install) -> None:
    needy = Entry(
        kind="reshape", name="needy", ref="a_third_party:Demanding", summary="Needs width"
    )
    install(camkit_good=plugin(needy, entry("sound", "Sound")))
    done = run("plugins", "check", "needy")
    assert done.code == 1
    assert "camkit plugins check 'needy:option=value'" in done.err
    asked = run("plugins", "check", "needy:width=4", "--json").records[0]["rows"]
    assert asked[0] == {**asked[0], "check": "entry", "status": "passed"}
    wrong = run("plugins", "check", "sound:power=2")
    assert wrong.code == 1
    assert "sound has no option 'power'" in wrong.err


def test_an_unknown_name_has_its_near_misses_and_the_broken_plugins(run, install) -> None:
    install(camkit_good=plugin(entry("sound", "Sound")), camkit_bad=BROKEN)
    done = run("plugins", "check", "soud")
    assert done.code == 2
    (line,) = done.lines
    assert "'soud'; did you mean 'sound'?" in line
    assert "camkit-bad 0" in line


def test_checking_needs_torch_but_its_help_does_not(run) -> None:
    text = run("plugins", "check", "--help").out
    assert "--full" in text
    assert "--json" in text
