from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "camkit-example"
UNSEEN = {"__pycache__", "build", "dist", "demo_output", "bench_output", "camkit_out"}


@dataclass(frozen=True)
class Distribution:
    folder: Path
    pyproject: dict[str, Any]

    @property
    def project(self) -> dict[str, Any]:
        return self.pyproject["project"]

    @property
    def name(self) -> str:
        return self.project["name"]

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def distributions() -> dict[str, Distribution]:
    files = sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")])
    found = [Distribution(file.parent, tomllib.loads(file.read_text("utf-8"))) for file in files]
    assert found
    return {dist.name: dist for dist in found}


@pytest.fixture(scope="session")
def first_party(distributions) -> dict[str, Distribution]:
    """All but the example, which stands for a third party's."""
    return {name: dist for name, dist in distributions.items() if name != EXAMPLE}


@pytest.fixture(scope="session")
def tooling() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Files that git has or would take; every file of the tree where it is no checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if _is_source(path.relative_to(ROOT))]
    return [path for path in files if path.is_file()]


def _is_source(path: Path) -> bool:
    hidden = any(part.startswith(".") and part != ".ci" for part in path.parts[:-1])
    return not hidden and not UNSEEN.intersection(path.parts)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[str], str]:
    """Run code in a new interpreter, away from the checkout; its standard output."""

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
