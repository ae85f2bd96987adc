"""The interface and the template are what the files say they are."""

from __future__ import annotations

import importlib.util
import types

import pytest

from camkit.cli.plugins.template import unpacked

HOW = "run `nox -s snapshots` and look at the difference; docs/compatibility.md says what it means"


@pytest.fixture(scope="module")
def snapshots(root) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("snapshots", root / "tests/repo/snapshots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_interface_is_the_one_on_record(snapshots) -> None:
    assert snapshots.API.read_text("utf-8") == snapshots.api(), HOW


SHOWN = """
plugin interface 1
camkit_entries(self) -> Iterable[Entry]
    __call__(self, capture: Capture, /) -> Tensor
    CHANNEL_RESCALING = 'channel_rescaling'
class UnknownNameError(PluginError, LookupError)
explain: the one of camkit_core
default_registry() -> Registry
"""


def test_a_change_of_it_would_show(snapshots) -> None:
    assert {*SHOWN.splitlines()} <= {*snapshots.api().splitlines()}


def test_the_template_is_the_example(root, snapshots) -> None:
    example = root / "plugins" / "camkit_example"
    assert snapshots.TEMPLATE.read_text("utf-8") == snapshots.template(), HOW
    files = unpacked()
    assert {"pyproject.toml", "README.md", "LICENSE", ".github/workflows/tests.yml"} <= {*files}
    assert "src/camkit_example/py.typed" in files
    for path, text in files.items():
        assert (example / path).read_text("utf-8") == text, path


def test_the_template_says_its_name_only_to_mean_itself() -> None:
    for path, text in unpacked().items():
        if path != "LICENSE":
            assert "for example" not in text.lower(), path
