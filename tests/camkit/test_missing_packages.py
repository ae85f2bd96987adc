"""The front door works, and says what to install, with any sibling package missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from camkit_core import default_registry

FIRST_PARTY = (
    "camkit-methods-gradient",
    "camkit-methods-perturbation",
    "camkit-tasks",
    "camkit-render",
    "camkit-metrics",
    "camkit-playground",
)

MISSING = [
    ("camkit-methods-gradient", ["explain", "photo.png", "--model", "net.py:build"], 2, "gradient"),
    ("camkit-methods-gradient", ["methods", "gradcam"], 2, "gradient"),
    ("camkit-methods-gradient", ["cite", "gradcam"], 2, "gradient"),
    ("camkit-methods-gradient", ["compare", "photo.png", "--model", "net.py:build"], 2, "gradient"),
    ("camkit-tasks", ["explain", "photo.png", "--model", "torchvision:resnet18@none"], 4, "tasks"),
    ("camkit-tasks", ["layers", "--model", "net.py:build"], 4, "tasks"),
    ("camkit-render", ["explain", "photo.png", "--model", "net.py:build"], 2, "render"),
    ("camkit-render", ["compare", "photo.png", "--model", "net.py:build"], 2, "render"),
    ("camkit-playground", ["demo"], 2, "playground"),
]


@pytest.mark.parametrize(("blocked", "argv", "code", "extra"), MISSING)
def test_what_is_missing_names_its_extra(
    run, net: str, photo: Path, monkeypatch, blocked: str, argv: list[str], code: int, extra: str
) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", blocked)
    done = run(*argv)
    assert done.code == code
    (line,) = done.lines
    assert f"camkit[{extra}]" in line
    assert not Path("camkit_out").exists()


def test_every_method_of_ours_names_its_extra_where_it_is_missing(run, monkeypatch) -> None:
    offered = {entry.name: entry.distribution for entry in default_registry().entries("method")}
    ours = {name for name, distribution in offered.items() if distribution in FIRST_PARTY}
    assert len(ours) >= 20
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "")
    default_registry.cache_clear()
    for name in sorted(ours):
        extra = offered[name].removeprefix("camkit-methods-").removeprefix("camkit-")
        done = run("explain", "photo.png", "--model", "net.py:build", "-m", name)
        assert done.code == 2
        assert f'no method is called {name!r}; {name} comes with pip install "camkit[{extra}]"' in (
            done.err
        )


@pytest.mark.parametrize("blocked", [*FIRST_PARTY, ",".join(FIRST_PARTY)])
def test_help_and_listings_work_without_it(run, monkeypatch, blocked: str) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", blocked)
    for argv in (["--help"], ["methods"], ["plugins"], ["doctor"], ["explain", "--help"]):
        assert run(*argv).code == 0


def test_an_empty_list_says_what_brings_methods(run, monkeypatch) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "")
    assert 'pip install "camkit[gradient]"' in run("methods").err


@pytest.mark.parametrize("blocked", ["camkit-playground", "camkit-metrics"])
def test_explain_needs_neither_metrics_nor_playground(
    run, net: str, photo: Path, monkeypatch, blocked: str
) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", blocked)
    assert run("explain", photo, "--model", net).code == 0
