"""What a third party can do wrong without being broken, and how it is named."""

from __future__ import annotations

import json

import pytest
import torch
from core_proof.plugins import entry, install, module, offering, on_path, write_plugin
from torch import nn

from camkit_core import Registry, TargetError, UnknownNameError, explain


class Bright:
    """A method without engine: the image's own channels."""

    name = "bright"

    def __init__(self) -> None:
        from camkit_core import Need

        self.needs = Need.ACTIVATIONS

    def __call__(self, capture, /):
        return capture.activations.sum(1)


SLOW = """
import torch
from camkit_core import Entry, hookimpl

@hookimpl
def camkit_entries():
    return [Entry(kind="target", name="slow", ref="json:loads")]
"""


def test_a_plugin_that_imports_torch_works_and_is_named_with_what_it_costs(fresh, tmp_path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "slow_plugin.py").write_text(SLOW)
    write_plugin(site, "a_light_plugin", "light")
    install(site, "slow-dist", {"main": "slow_plugin"})
    install(site, "zz-light-dist", {"main": "a_light_plugin"})
    code = """
import json
from camkit_core import Registry
found = Registry(allow=["slow-dist", "zz-light-dist"], strict=True)
working = [p for p in found.plugins if p.status == "ok"]
print(json.dumps([[p.distribution, p.heavy, p.import_ms] for p in working]))
assert [e.name for e in found.entries()] == ["light", "slow"] and found.problems == ()
"""
    (slow, heavy, cost), (light, nothing, little) = json.loads(fresh(code, site))
    assert (slow, heavy[0]) == ("slow-dist", "torch")
    assert (light, nothing) == ("zz-light-dist", [])
    assert cost > 10 * little


def test_what_somebody_else_has_imported_is_not_held_against_a_plugin(tmp_path) -> None:
    (tmp_path / "late_plugin.py").write_text(SLOW)
    install(tmp_path, "late-dist", {"main": "late_plugin"})
    with on_path(tmp_path):
        (info,) = [p for p in Registry(allow=["late-dist"]).plugins if p.status == "ok"]
    assert info.heavy == ()


@pytest.mark.parametrize("order", [1, -1])
def test_shadowing_a_name_replaces_nothing_and_both_are_named(order) -> None:
    pair = [
        ("camkit-first", offering(entry("gradcam", ref="json:loads"), entry("other"))),
        ("shady", offering(entry("gradcam", ref="json:dumps"))),
    ]
    found = Registry(discover=False, plugins=pair[::order], strict=True)
    with pytest.raises(LookupError, match=r"camkit-first/gradcam.*shady/gradcam|shady.*camkit-f"):
        found.resolve("target", "gradcam")
    assert found.resolve("target", "camkit-first/gradcam") is json.loads
    assert found.resolve("target", "shady/gradcam") is json.dumps
    assert found.has("target", "other")
    assert found.problems == ()


BROKEN = ("bad-dist", module("m", camkit_entries=lambda nonsense: []))


def test_names_are_those_offered_and_those_of_our_own_packages() -> None:
    found = Registry(discover=False, plugins=[("d", offering(entry("x", aliases=("y",))))])
    assert {"x", "y", "margin"} <= found.names("target")
    assert "gradcam" in found.names("method")
    assert "x" not in found.names("method")


def test_missing_says_what_to_install_and_who_failed_and_nothing_else() -> None:
    found = Registry(discover=False, plugins=[BROKEN, ("d", offering(entry("margin")))])
    assert 'rest comes with pip install "camkit[tasks]"' in found.missing("target", "rest")
    assert "bad-dist 0" in found.missing("target", "rest")
    assert "pip install" not in found.missing("target", "margin")
    assert Registry(discover=False).missing("target", "cat") == ""


def test_a_target_by_name_names_the_extra_and_the_broken_plugin() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    image = torch.randn(1, 3, 8, 8)
    registry = Registry(discover=False, plugins=[BROKEN])
    with pytest.raises(TargetError, match=r'pip install "camkit\[tasks\]".*bad-dist 0'):
        explain(network, image, Bright(), "margin:3", layers="0", registry=registry)
    with pytest.raises(TargetError) as caught:
        explain(network, image, Bright(), "tabby", layers="0", registry=Registry(discover=False))
    assert "pip install" not in str(caught.value)


def test_a_writer_that_is_missing_names_the_broken_plugin() -> None:
    registry = Registry(discover=False, plugins=[BROKEN])
    with pytest.raises(UnknownNameError, match=r"\.gif.*camkit\[render\].*bad-dist 0"):
        registry.writer_for(".gif")
