"""The import guard lets declared libraries through and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def distribution(site: Path, name: str, requires: str, **files: str) -> None:
    """An installed distribution with one package."""
    info = site / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires.split(";;") if line]
    head = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *lines]
    (info / "METADATA").write_text("\n".join([*head, ""]))
    package = site / name.replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_text("")
    for module, code in files.items():
        (package / f"{module}.py").write_text(code)


@pytest.fixture
def guard(root, tmp_path):
    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "tests/repo/guard.py"), name]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    return run


def test_what_is_declared_can_be_imported(guard, tmp_path) -> None:
    distribution(tmp_path, "camkit-sound", "pluggy", main="import pluggy, json\n", extra="")
    done = guard("camkit-sound")
    assert (done.returncode, done.stderr) == (0, "")
    assert "camkit-sound: 3 modules, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import rich\n", "No module named 'rich'"),
        ("import packaging\n", "No module named 'packaging'"),
        ("import camkit_core\n", "No module named 'camkit_core'"),
        ("from camkit_sibling import thing\n", "No module named 'camkit_sibling'"),
    ],
)
def test_what_is_not_declared_cannot(guard, tmp_path, code, said) -> None:
    distribution(tmp_path, "camkit-sibling", "")
    distribution(tmp_path, "camkit-greedy", "pluggy;;rich; extra == 'colors'", deep=code, fine="")
    done = guard("camkit-greedy")
    assert done.returncode == 1
    assert f"camkit_greedy.deep: ModuleNotFoundError: {said}" in done.stdout
    assert "deep.py:1" in done.stdout
    assert "3 modules, 1 failed" in done.stdout


def test_an_optional_library_looks_as_if_it_were_not_installed(guard, tmp_path) -> None:
    code = (
        "import importlib.util\n"
        "assert importlib.util.find_spec('rich') is None\n"
        "try:\n    import rich\nexcept ImportError:\n    rich = None\n"
    )
    distribution(tmp_path, "camkit-polite", "", main=code)
    assert guard("camkit-polite").returncode == 0


def test_what_a_requirement_requires_is_let_through(guard, tmp_path) -> None:
    distribution(tmp_path, "camkit-deep", "")
    distribution(tmp_path, "camkit-middle", "camkit-deep", main="import camkit_deep\n")
    distribution(tmp_path, "camkit-top", "camkit-middle", main="import camkit_middle.main\n")
    assert guard("camkit-top").returncode == 0
